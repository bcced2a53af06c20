package streamscore;

import java.io.Serializable;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import org.apache.spark.ml.linalg.Vector;
import org.apache.spark.ml.linalg.Vectors;
import org.apache.spark.sql.RowFactory;

/**
 * A fast path for good messages of the plain form, as nearly all are: label, then features, with the fields in Spark's
 * order. It needs no strings and no tokens, and a third of the parser's time.
 *
 * It rejects no message: any other message, good or bad, is left to the strict decoder. So every message that it
 * accepts must be good, and must be read to the same bits.
 */
final class PlainReader implements Serializable {
    private static final long serialVersionUID = 1L;

    private static final byte[] TYPE_SPARSE = ascii("{\"type\":0,\"size\":");
    private static final byte[] TYPE_DENSE = ascii("{\"type\":1,\"values\":");
    private static final byte[] INDICES = ascii(",\"indices\":");
    private static final byte[] VALUES = ascii(",\"values\":");
    private static final byte[] END = ascii("}}");

    /** Powers of ten that a double represents exactly. */
    private static final double[] TENS = {
        1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18
    };
    private static final long EXACT = 1L << 53;
    private static final int LONGEST_NUMBER = 32;

    private final byte[] beforeLabel;
    private final byte[] beforeFeatures;
    private final byte[] onlyFeatures;
    private final int size;

    /**
     * @param labelField name of the label's field
     * @param featuresField name of the vector's field
     * @param size number of features that a vector must have
     */
    PlainReader(String labelField, String featuresField, int size) {
        this.beforeLabel = ascii("{\"" + labelField + "\":");
        this.beforeFeatures = ascii(",\"" + featuresField + "\":");
        this.onlyFeatures = ascii("{\"" + featuresField + "\":");
        this.size = size;
    }

    /** Returns whether this reader supports the field names: distinct, of characters that JSON never escapes. */
    static boolean suits(String labelField, String featuresField) {
        return !labelField.equals(featuresField)
            && labelField.matches("[A-Za-z0-9_.-]+")
            && featuresField.matches("[A-Za-z0-9_.-]+");
    }

    /** Returns the row of a message, or null if the message is not of the plain form. */
    Object read(byte[] message) {
        return new Cursor(message).row();
    }

    private static byte[] ascii(String text) {
        return text.getBytes(StandardCharsets.US_ASCII);
    }

    /** A cursor in a message. Every step returns whether the expected text follows. */
    private final class Cursor {
        private final byte[] bytes;
        private int at;

        private double number;
        private int index;
        private int[] indices = new int[32];
        private int indexCount;
        private double[] values = new double[32];
        private int valueCount;

        Cursor(byte[] message) {
            this.bytes = message;
        }

        Object row() {
            Double label = null;
            if (follows(beforeLabel)) {
                if (!readNumber()) {
                    return null;
                }
                label = Double.valueOf(number);
                if (!follows(beforeFeatures)) {
                    return null;
                }
            } else if (!follows(onlyFeatures)) {
                return null;
            }
            Vector features = features();
            if (features == null || !follows(END) || at != bytes.length) {
                return null;
            }
            return RowFactory.create(new Object[] {label, features, null, null});
        }

        private Vector features() {
            if (follows(TYPE_SPARSE)) {
                if (!readIndex() || index != size || !follows(INDICES) || !readIndices()) {
                    return null;
                }
                if (!follows(VALUES) || !readValues() || valueCount != indexCount) {
                    return null;
                }
                return Vectors.sparse(size, Arrays.copyOf(indices, indexCount), Arrays.copyOf(values, valueCount));
            }
            if (!follows(TYPE_DENSE) || !readValues() || valueCount != size) {
                return null;
            }
            return Vectors.dense(Arrays.copyOf(values, valueCount));
        }

        private boolean follows(byte[] expected) {
            if (bytes.length - at < expected.length) {
                return false;
            }
            for (int i = 0; i < expected.length; i++) {
                if (bytes[at + i] != expected[i]) {
                    return false;
                }
            }
            at += expected.length;
            return true;
        }

        private int here() {
            return at < bytes.length ? (int) bytes[at] : -1;
        }

        private boolean isDigit() {
            int c = here();
            return c >= '0' && c <= '9';
        }

        private boolean takes(char expected) {
            if (here() != expected) {
                return false;
            }
            at++;
            return true;
        }

        /** Reads ascending whole numbers below the size. */
        private boolean readIndices() {
            if (!takes('[')) {
                return false;
            }
            int previous = -1;
            while (!takes(']')) {
                if (indexCount > 0 && !takes(',')) {
                    return false;
                }
                if (!readIndex() || index <= previous || index >= size) {
                    return false;
                }
                if (indexCount == indices.length) {
                    indices = Arrays.copyOf(indices, 2 * indexCount);
                }
                indices[indexCount++] = index;
                previous = index;
            }
            return true;
        }

        private boolean readValues() {
            if (!takes('[')) {
                return false;
            }
            while (!takes(']')) {
                if (valueCount > 0 && !takes(',')) {
                    return false;
                }
                if (!readNumber()) {
                    return false;
                }
                if (valueCount == values.length) {
                    values = Arrays.copyOf(values, 2 * valueCount);
                }
                values[valueCount++] = number;
            }
            return true;
        }

        /** Reads a whole number of at most nine digits, without a sign. */
        private boolean readIndex() {
            int start = at;
            int found = 0;
            while (isDigit() && at - start < 9) {
                found = 10 * found + bytes[at++] - '0';
            }
            index = found;
            return at > start && !isDigit() && (bytes[start] != '0' || at == start + 1);
        }

        /** Reads a finite number. */
        private boolean readNumber() {
            int start = at;
            boolean isNegative = takes('-');
            int first = at;
            long digits = readDigits(0L);
            if (at == first || (bytes[first] == '0' && at > first + 1)) {
                return false;
            }
            int wholeDigits = at - first;
            int fraction = 0;
            boolean isWhole = true;
            if (takes('.')) {
                int point = at;
                digits = readDigits(digits);
                fraction = at - point;
                isWhole = false;
                if (fraction == 0) {
                    return false;
                }
            }
            if (here() == 'e' || here() == 'E') {
                return readSlowly(start);
            }
            if (wholeDigits + fraction > 18) { // the digits may not fit
                return !isWhole && readSlowly(start);
            }
            if (isWhole) {
                number = isNegative ? -digits : digits; // the parser reads the whole number -0 as 0
                return true;
            }
            if (digits > EXACT) {
                return readSlowly(start);
            }
            double magnitude = digits / TENS[fraction]; // both exact, so the quotient is the nearest double
            number = isNegative ? -magnitude : magnitude;
            return true;
        }

        private long readDigits(long before) {
            long digits = before;
            while (isDigit()) {
                digits = 10L * digits + (bytes[at++] - '0');
            }
            return digits;
        }

        /** Reads a number again from its start, if arithmetic alone would not be exact. */
        private boolean readSlowly(int start) {
            if (takes('e') || takes('E')) {
                if (!takes('+')) {
                    takes('-');
                }
                int first = at;
                readDigits(0L);
                if (at == first) {
                    return false;
                }
            }
            if (at - start > LONGEST_NUMBER) {
                return false;
            }
            number = Double.parseDouble(new String(bytes, start, at - start, StandardCharsets.US_ASCII));
            return !Double.isInfinite(number);
        }
    }
}
