package streamscore;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.core.JsonToken;
import java.io.IOException;
import java.util.Arrays;
import org.apache.spark.ml.linalg.Vector;
import org.apache.spark.ml.linalg.Vectors;
import org.apache.spark.sql.RowFactory;
import org.apache.spark.sql.api.java.UDF1;

/**
 * Judges a JSON message while it reads it, in one pass: message bytes in, a row (label, features, reason, detail) out.
 * The features are a vector, or, in the other mode, the row of the message's raw columns.
 *
 * A good message has a null reason. A bad one has a reason from a closed list, a detail that never repeats the message's
 * content, and a vector without a set value in place of its features, so that it can travel with the good ones.
 *
 * Which fault is named when there are several: length, then bytes, then JSON, then structure, then size, then numbers.
 * Compiled by Janino, hence no generics, lambdas or streams.
 */
public final class MessageDecoder implements UDF1 {
    private static final long serialVersionUID = 1L;

    /**
     * Non-numeric numbers are let through the parser so that NaN can be told from garbage; the reader refuses them.
     * Names whose hashes collide only make its table of names larger: a parser that refused them would leave the table,
     * which all messages share, in a state in which a later one fails with an index that is out of bounds.
     */
    private static final JsonFactory JSON = new JsonFactory()
        .disable(JsonFactory.Feature.FAIL_ON_SYMBOL_HASH_OVERFLOW)
        .enable(JsonParser.Feature.STRICT_DUPLICATE_DETECTION)
        .enable(JsonParser.Feature.ALLOW_NON_NUMERIC_NUMBERS);

    private final String labelField;
    private final String featuresField;
    private final String form;
    private final int size;
    private final int maxBytes;
    /** What stands in the place of a bad message's features: a vector without a set value, or columns without values. */
    private final Object blank;
    /** The raw columns of a message, or null where it has a vector. */
    private final RawColumns columns;
    /** The short cut for plain messages, or null where the form has none. */
    private final PlainReader plain;

    /**
     * @param labelField name of the label's field
     * @param featuresField name of the vector's field
     * @param form how the vector is written: spark, triple or dense
     * @param size number of features that a vector must have
     * @param maxBytes longest message that is parsed
     */
    public MessageDecoder(String labelField, String featuresField, String form, int size, int maxBytes) {
        this.labelField = labelField;
        this.featuresField = featuresField;
        this.form = form;
        this.size = size;
        this.maxBytes = maxBytes;
        this.blank = Vectors.sparse(size, new int[0], new double[0]);
        this.columns = null;
        boolean isPlain = form.equals("spark") && PlainReader.suits(labelField, featuresField);
        this.plain = isPlain ? new PlainReader(labelField, featuresField, size) : null;
    }

    /**
     * For messages with raw columns in the place of a vector.
     *
     * @param labelField name of the label's field
     * @param columns the fields that are columns, as in "I1 INT,C1 STRING"
     * @param maxBytes longest message that is parsed
     */
    public MessageDecoder(String labelField, String columns, int maxBytes) {
        this.labelField = labelField;
        this.featuresField = null;
        this.form = null;
        this.size = 0;
        this.maxBytes = maxBytes;
        this.columns = new RawColumns(columns);
        this.blank = RowFactory.create(new Object[this.columns.count()]);
        this.plain = null;
    }

    public Object call(Object value) throws IOException {
        if (value == null) {
            return rejected("tombstone", "the message has no value");
        }
        byte[] bytes = (byte[]) value;
        if (bytes.length > maxBytes) {
            return rejected("too_large", bytes.length + " bytes, at most " + maxBytes + " are parsed");
        }
        Object read = plain == null ? null : plain.read(bytes);
        if (read != null) {
            return read;
        }
        int bad = firstNonUtf8(bytes);
        if (bad >= 0) {
            return rejected("not_utf8", "not UTF-8 at byte " + bad);
        }
        // The parser would take both as a sign of UTF-16 or UTF-32 and read on.
        if (startsWithByteOrderMark(bytes)) {
            return rejected("not_json", "starts with a byte-order mark");
        }
        if (containsNul(bytes)) {
            return rejected("not_json", "contains a NUL byte");
        }
        Reading reading = new Reading();
        JsonParser parser = JSON.createParser(bytes);
        try {
            readMessage(parser, reading);
        } catch (JsonProcessingException error) {
            return rejectedAsJson(error, parser);
        } catch (RuntimeException error) {
            // The stream would stop, and at each start again: no message may do that, whatever is wrong in the parser.
            return rejected("not_json", "the parser fails on it: " + error.getClass().getName());
        } finally {
            parser.close();
        }
        return reading.row();
    }

    private void readMessage(JsonParser parser, Reading reading) throws IOException {
        JsonToken token = parser.nextToken();
        if (token == null) {
            reading.fault(Reading.JSON_FAULT, "not_json", "the message is empty");
            return;
        }
        if (token != JsonToken.START_OBJECT) {
            reading.fault(Reading.JSON_FAULT, "not_json", "the message is not a JSON object");
            return;
        }
        while (parser.nextToken() != JsonToken.END_OBJECT) {
            String name = parser.getCurrentName();
            parser.nextToken();
            if (name.equals(featuresField)) {
                reading.readFeatures(parser);
            } else if (name.equals(labelField)) {
                reading.readLabel(parser);
            } else if (columns == null || !reading.readColumn(name, parser)) {
                skip(parser, reading);
            }
        }
        if (parser.nextToken() != null) {
            reading.fault(Reading.JSON_FAULT, "not_json", "something follows the JSON object");
        }
    }

    /** Passes over the value at hand. Inside it NaN and Infinity are not JSON, whatever the parser was told to allow. */
    private static void skip(JsonParser parser, Reading reading) throws IOException {
        int depth = 0;
        JsonToken token = parser.currentToken();
        while (true) {
            if (token.isStructStart()) {
                depth++;
            } else if (token.isStructEnd()) {
                depth--;
            } else if (token == JsonToken.VALUE_NUMBER_FLOAT && parser.isNaN()) {
                reading.fault(Reading.JSON_FAULT, "not_json", "a number that JSON does not know");
            }
            if (depth == 0) {
                return;
            }
            token = parser.nextToken();
            if (token == null) {
                return;
            }
        }
    }

    private Object rejected(String reason, String detail) {
        return RowFactory.create(new Object[] {null, blank, reason, detail});
    }

    private Object rejectedAsJson(JsonProcessingException error, JsonParser parser) {
        long at = parser.getTokenLocation().getByteOffset();
        // Jackson has no exception class of its own for this; a test holds the wording.
        String message = error.getOriginalMessage();
        if (message != null && message.startsWith("Duplicate field")) {
            return rejected("duplicate_name", "a name stands twice in one object, second time at byte " + at);
        }
        return rejected("not_json", "not JSON, or not complete, near byte " + at);
    }

    private static boolean startsWithByteOrderMark(byte[] bytes) {
        return bytes.length >= 3 && bytes[0] == (byte) 0xEF && bytes[1] == (byte) 0xBB && bytes[2] == (byte) 0xBF;
    }

    private static boolean containsNul(byte[] bytes) {
        for (int i = 0; i < bytes.length; i++) {
            if (bytes[i] == 0) {
                return true;
            }
        }
        return false;
    }

    /** Returns the position of the first byte that is not well-formed UTF-8 (Unicode 15, table 3-7), or -1. */
    private static int firstNonUtf8(byte[] bytes) {
        int i = 0;
        int end = bytes.length;
        while (i < end) {
            int lead = bytes[i];
            if (lead >= 0) {
                i++;
                continue;
            }
            lead &= 0xFF;
            int low = 0x80;
            int high = 0xBF;
            int following;
            if (lead >= 0xC2 && lead <= 0xDF) {
                following = 1;
            } else if (lead >= 0xE0 && lead <= 0xEF) {
                following = 2;
                if (lead == 0xE0) {
                    low = 0xA0; // else the form is overlong
                } else if (lead == 0xED) {
                    high = 0x9F; // else it is a surrogate
                }
            } else if (lead >= 0xF0 && lead <= 0xF4) {
                following = 3;
                if (lead == 0xF0) {
                    low = 0x90; // else the form is overlong
                } else if (lead == 0xF4) {
                    high = 0x8F; // else it is beyond U+10FFFF
                }
            } else {
                return i;
            }
            if (i + following >= end) {
                return i;
            }
            for (int k = 1; k <= following; k++) {
                int next = bytes[i + k] & 0xFF;
                if (next < low || next > high) {
                    return i;
                }
                low = 0x80;
                high = 0xBF;
            }
            i += following + 1;
        }
        return -1;
    }

    /** What has been read of one message, and the gravest fault met so far. */
    private final class Reading {
        static final int JSON_FAULT = 3;
        static final int STRUCTURE_FAULT = 2;
        static final int SIZE_FAULT = 1;
        static final int NUMBER_FAULT = 0;

        private Double label;
        private boolean hasFeatures;
        private int gravity = -1;
        private String reason;
        private String detail;

        private int type = -1;
        private long declaredSize = -1;
        private int[] indices;
        private int indexCount = -1;
        private double[] values;
        private int valueCount = -1;

        private final Object[] cells = columns == null ? null : new Object[columns.count()];

        /** Notes a fault; the first of the gravest kind is the one that is named. */
        void fault(int kind, String faultReason, String faultDetail) {
            if (kind > gravity) {
                gravity = kind;
                reason = faultReason;
                detail = faultDetail;
            }
        }

        private void badFeatures(String faultDetail) {
            fault(STRUCTURE_FAULT, "bad_features", faultDetail);
        }

        Object row() {
            if (columns != null && !hasFeatures) {
                badFeatures("the message has none of the fields that are columns");
            } else if (columns == null && gravity < SIZE_FAULT) {
                judgeFeatures();
            }
            if (gravity >= 0) {
                return rejected(reason, detail);
            }
            if (columns != null) {
                return RowFactory.create(new Object[] {label, RowFactory.create(cells), null, null});
            }
            Vector features = type == 1
                ? Vectors.dense(Arrays.copyOf(values, valueCount))
                : Vectors.sparse(size, Arrays.copyOf(indices, indexCount), Arrays.copyOf(values, valueCount));
            return RowFactory.create(new Object[] {label, features, null, null});
        }

        void readLabel(JsonParser parser) throws IOException {
            JsonToken token = parser.currentToken();
            if (token == JsonToken.VALUE_NULL) {
                return;
            }
            if (!isNumber(token)) {
                fault(STRUCTURE_FAULT, "bad_label", "the label is not a number");
                skip(parser, this);
                return;
            }
            double number = parser.getDoubleValue();
            if (Double.isNaN(number) || Double.isInfinite(number)) {
                fault(STRUCTURE_FAULT, "bad_label", "the label is not finite");
                return;
            }
            label = Double.valueOf(number);
        }

        /** Reads the value at hand if its name is a column's, and tells whether it is. */
        boolean readColumn(String name, JsonParser parser) throws IOException {
            int place = columns.place(name);
            if (place < 0) {
                return false;
            }
            hasFeatures = true;
            Object cell = columns.read(place, parser);
            if (cell == RawColumns.WRONG) {
                badFeatures("the field " + columns.described(place));
                skip(parser, this);
            } else if (cell == RawColumns.NOT_FINITE) {
                fault(NUMBER_FAULT, "not_finite", "the field " + columns.named(place) + " is not finite");
            } else {
                cells[place] = cell;
            }
            return true;
        }

        void readFeatures(JsonParser parser) throws IOException {
            hasFeatures = true;
            if (form.equals("dense")) {
                type = 1;
                readValues(parser);
            } else if (form.equals("triple")) {
                type = 0;
                readTriple(parser);
            } else {
                readSparkVector(parser);
            }
        }

        private void readSparkVector(JsonParser parser) throws IOException {
            if (parser.currentToken() != JsonToken.START_OBJECT) {
                badFeatures("the features are not an object");
                skip(parser, this);
                return;
            }
            while (parser.nextToken() != JsonToken.END_OBJECT) {
                String name = parser.getCurrentName();
                parser.nextToken();
                if (name.equals("indices")) {
                    readIndices(parser);
                } else if (name.equals("values")) {
                    readValues(parser);
                } else if (name.equals("size")) {
                    readSize(parser);
                } else if (name.equals("type")) {
                    readType(parser);
                } else {
                    skip(parser, this);
                }
            }
        }

        private void readTriple(JsonParser parser) throws IOException {
            if (parser.currentToken() != JsonToken.START_ARRAY) {
                badFeatures("the features are not an array");
                skip(parser, this);
                return;
            }
            int position = 0;
            while (parser.nextToken() != JsonToken.END_ARRAY) {
                if (position == 0) {
                    readSize(parser);
                } else if (position == 1) {
                    readIndices(parser);
                } else if (position == 2) {
                    readValues(parser);
                } else {
                    skip(parser, this);
                }
                position++;
            }
            if (position != 3) {
                badFeatures("the features have " + position + " parts, expected 3: size, indices, values");
            }
        }

        private void readType(JsonParser parser) throws IOException {
            if (!isInt(parser)) {
                badFeatures("the vector's type is not a whole number");
                skip(parser, this);
                return;
            }
            type = parser.getIntValue();
            if (type != 0 && type != 1) {
                badFeatures("the vector's type is neither 0 nor 1");
            }
        }

        private void readSize(JsonParser parser) throws IOException {
            if (parser.currentToken() == JsonToken.VALUE_NULL) {
                return;
            }
            if (!isInt(parser) || parser.getIntValue() < 0) {
                badFeatures("the vector's size is not a whole number from 0");
                skip(parser, this);
                return;
            }
            declaredSize = parser.getIntValue();
        }

        private void readIndices(JsonParser parser) throws IOException {
            if (parser.currentToken() == JsonToken.VALUE_NULL) {
                return;
            }
            if (parser.currentToken() != JsonToken.START_ARRAY) {
                badFeatures("the indices are not an array");
                skip(parser, this);
                return;
            }
            indices = new int[32];
            indexCount = 0;
            while (parser.nextToken() != JsonToken.END_ARRAY) {
                if (!isInt(parser)) {
                    badFeatures("index number " + indexCount + " is not a whole number");
                    skip(parser, this);
                    indexCount++;
                    continue;
                }
                if (indexCount >= indices.length) {
                    indices = Arrays.copyOf(indices, indexCount * 2);
                }
                indices[indexCount++] = parser.getIntValue();
            }
        }

        private void readValues(JsonParser parser) throws IOException {
            if (parser.currentToken() != JsonToken.START_ARRAY) {
                badFeatures("the values are not an array");
                skip(parser, this);
                return;
            }
            values = new double[32];
            valueCount = 0;
            while (parser.nextToken() != JsonToken.END_ARRAY) {
                if (!isNumber(parser.currentToken())) {
                    badFeatures("value number " + valueCount + " is not a number");
                    skip(parser, this);
                    valueCount++;
                    continue;
                }
                if (valueCount >= values.length) {
                    values = Arrays.copyOf(values, valueCount * 2);
                }
                double number = parser.getDoubleValue();
                if (Double.isNaN(number) || Double.isInfinite(number)) {
                    fault(NUMBER_FAULT, "not_finite", "value number " + valueCount + " is not finite");
                }
                values[valueCount++] = number;
            }
        }

        /** Checks what only the whole vector can tell. */
        private void judgeFeatures() {
            if (!hasFeatures) {
                badFeatures("the message has no features");
            } else if (type < 0) {
                badFeatures("the vector has no type");
            } else if (valueCount < 0) {
                badFeatures("the vector has no values");
            } else if (type == 0) {
                judgeSparse();
            } else if (valueCount != size) {
                fault(SIZE_FAULT, "wrong_size", valueCount + " features, expected " + size);
            }
        }

        private void judgeSparse() {
            if (declaredSize < 0) {
                badFeatures("the vector has no size");
            } else if (indexCount < 0) {
                badFeatures("the vector has no indices");
            } else if (indexCount != valueCount) {
                badFeatures(indexCount + " indices, but " + valueCount + " values");
            } else {
                long previous = -1;
                for (int i = 0; i < indexCount; i++) {
                    if (indices[i] <= previous) {
                        badFeatures("index number " + i + " is negative or not above the one before it");
                        return;
                    }
                    previous = indices[i];
                }
                if (previous >= declaredSize) {
                    badFeatures("an index is not below the size");
                } else if (declaredSize != size) {
                    fault(SIZE_FAULT, "wrong_size", declaredSize + " features, expected " + size);
                }
            }
        }

        private boolean isNumber(JsonToken token) {
            return token == JsonToken.VALUE_NUMBER_INT || token == JsonToken.VALUE_NUMBER_FLOAT;
        }

        private boolean isInt(JsonParser parser) throws IOException {
            return parser.currentToken() == JsonToken.VALUE_NUMBER_INT
                && parser.getNumberType() == JsonParser.NumberType.INT;
        }
    }
}
