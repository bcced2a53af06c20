package streamscore;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.core.JsonToken;
import java.io.IOException;
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

    private static final String FRAME = "looks like a Schema Registry frame, which is not read: send plain JSON";

    private final MessageShape shape;
    private final String featuresField;
    /** How the vector is written, or null where the message has raw columns. */
    private final VectorForm form;
    private final int size;
    /** What stands in the place of a bad message's features: a vector without a set value, or columns without values. */
    private final Object blank;
    /** The raw columns of a message, or null where it has a vector. */
    private final RawColumns columns;
    /** The short cut for plain messages, or null where the form has none. */
    private final PlainReader plain;

    /**
     * @param shape what the configuration says of messages
     * @param featuresField name of the vector's field
     * @param form the class of the form in which the vector is written, without its package
     * @param size number of features that a vector must have
     * @throws Exception there is no such form
     */
    public MessageDecoder(MessageShape shape, String featuresField, String form, int size) throws Exception {
        this.shape = shape;
        this.featuresField = featuresField;
        this.form = (VectorForm) Class.forName("streamscore." + form).newInstance();
        this.size = size;
        this.blank = Vectors.sparse(size, new int[0], new double[0]);
        this.columns = null;
        this.plain = shape.root.length > 0 ? null : this.form.plain(shape.labelField, featuresField, size);
    }

    /**
     * For messages with raw columns in the place of a vector.
     *
     * @param shape what the configuration says of messages
     * @param columns the fields that are columns, as in "I1 INT,C1 STRING"
     */
    public MessageDecoder(MessageShape shape, String columns) {
        this.shape = shape;
        this.featuresField = null;
        this.form = null;
        this.size = 0;
        this.columns = new RawColumns(columns);
        this.blank = RowFactory.create(new Object[this.columns.count()]);
        this.plain = null;
    }

    public Object call(Object value) throws IOException {
        if (value == null) {
            return rejected("tombstone", "the message has no value");
        }
        byte[] bytes = (byte[]) value;
        if (bytes.length > shape.maxBytes) {
            return rejected("too_large", bytes.length + " bytes, at most " + shape.maxBytes + " are parsed");
        }
        Object read = plain == null ? null : plain.read(bytes);
        if (read != null) {
            return read;
        }
        int bad = firstNonUtf8(bytes);
        if (bad >= 0) {
            return rejected("not_utf8", "not UTF-8 at byte " + bad + (isFrame(bytes) ? "; " + FRAME : ""));
        }
        // The parser would take both as a sign of UTF-16 or UTF-32 and read on.
        if (startsWithByteOrderMark(bytes)) {
            return rejected("not_json", "starts with a byte-order mark");
        }
        if (containsNul(bytes)) {
            return rejected("not_json", isFrame(bytes) ? FRAME : "contains a NUL byte");
        }
        Reading reading = new Reading(shape, columns, size);
        JsonParser parser = JSON.createParser(bytes);
        try {
            readMessage(parser, reading);
        } catch (JsonProcessingException error) {
            return rejectedAsJson(error, parser, bytes.length);
        } catch (RuntimeException error) {
            // The stream would stop, and at each start again: no message may do that, whatever is wrong in the parser.
            return rejected("not_json", "the parser fails on it: " + error.getClass().getName());
        } finally {
            parser.close();
        }
        Object row = reading.row();
        return row == null ? rejected(reading.reason, explained(reading, bytes)) : row;
    }

    private void readMessage(JsonParser parser, Reading reading) throws IOException {
        JsonToken token = parser.nextToken();
        if (token == null) {
            reading.notJson("the message is empty");
            return;
        }
        if (token != JsonToken.START_OBJECT) {
            reading.notJson("the message is not a JSON object");
            return;
        }
        readObject(parser, reading, 0);
        if (parser.nextToken() != null) {
            reading.notJson("something follows the JSON object");
        }
    }

    /** Reads the object at hand; one that is not yet that of label and features only leads to it. */
    private void readObject(JsonParser parser, Reading reading, int depth) throws IOException {
        if (depth == shape.root.length) {
            readFields(parser, reading);
            return;
        }
        while (parser.nextToken() != JsonToken.END_OBJECT) {
            boolean isOnPath = parser.getCurrentName().equals(shape.root[depth]);
            JsonToken token = parser.nextToken();
            if (isOnPath && token == JsonToken.START_OBJECT) {
                readObject(parser, reading, depth + 1);
            } else if (isOnPath && token == JsonToken.VALUE_NULL) {
                reading.noValue();
            } else {
                reading.skip(parser);
            }
        }
    }

    private void readFields(JsonParser parser, Reading reading) throws IOException {
        while (parser.nextToken() != JsonToken.END_OBJECT) {
            String name = parser.getCurrentName();
            parser.nextToken();
            if (name.equals(featuresField)) {
                reading.beginFeatures();
                form.read(parser, reading);
            } else if (name.equals(shape.labelField)) {
                reading.readLabel(parser);
            } else if (columns == null || !reading.readColumn(name, parser)) {
                reading.skip(parser);
            }
        }
    }

    /** Returns the detail of a bad message, with the fields that it has or the form that fits, if that is the fault. */
    private String explained(Reading reading, byte[] bytes) throws IOException {
        if (!reading.reason.equals("bad_features")) {
            return reading.detail;
        }
        Diagnosis diagnosis = new Diagnosis(JSON, bytes, shape.root, featuresField);
        if (!reading.hasFeatures()) {
            String missing = columns == null
                ? "the message has no field " + Diagnosis.quoted(featuresField) + " (message.features_field)"
                : reading.detail;
            return missing + (shape.root.length == 0 ? "" : " in message.root, " + shape.path()) + "; "
                + diagnosis.fields();
        }
        String fitting = form == null ? null : diagnosis.form();
        if (fitting == null || form.getClass().getName().equals("streamscore." + fitting + "Form")) {
            return reading.detail;
        }
        return reading.detail + "; message.vector_form: " + fitting.toLowerCase() + " fits";
    }

    private Object rejected(String reason, String detail) {
        return RowFactory.create(new Object[] {null, blank, reason, detail});
    }

    private Object rejectedAsJson(JsonProcessingException error, JsonParser parser, int length) {
        // Before the first token the parser's place is -1, and behind the last one it may be the end.
        long at = Math.max(0, Math.min(parser.getTokenLocation().getByteOffset(), length - 1));
        // Jackson has no exception class of its own for this; a test holds the wording.
        String message = error.getOriginalMessage();
        if (message != null && message.startsWith("Duplicate field")) {
            return rejected("duplicate_name", "a name stands twice in one object, second time at byte " + at);
        }
        return rejected("not_json", "not JSON, or not complete, near byte " + at);
    }

    /** Returns whether a message begins with a zero byte and a number of four bytes, the id of a schema. */
    private static boolean isFrame(byte[] bytes) {
        return bytes.length > 5 && bytes[0] == 0 && bytes[1] == 0;
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
}
