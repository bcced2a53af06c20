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
 * Decodes and checks a JSON message in one pass: message bytes in, a row (label, features, reason, detail) out.
 * The features are a vector, or, in the other mode, the row of the message's raw columns.
 *
 * A good message has a null reason. A bad message has a reason from a closed list, a detail that never repeats the
 * message's content, and an empty vector or null columns as features, so that its row has the type of a good one.
 *
 * Of several faults the first is named, in this order: length, bytes, JSON, structure, size, numbers.
 * Compiled by Janino, hence no generics, lambdas or streams.
 */
public final class MessageDecoder implements UDF1 {
    private static final long serialVersionUID = 1L;

    /**
     * The parser accepts non-numeric numbers so that NaN can be distinguished from garbage; the reader refuses them.
     * Names with colliding hashes only enlarge the parser's table of names, which all messages share: a parser that
     * refused them would leave the table in a state in which a later message fails with an index out of bounds.
     */
    private static final JsonFactory JSON = new JsonFactory()
        .disable(JsonFactory.Feature.FAIL_ON_SYMBOL_HASH_OVERFLOW)
        .enable(JsonParser.Feature.STRICT_DUPLICATE_DETECTION)
        .enable(JsonParser.Feature.ALLOW_NON_NUMERIC_NUMBERS);

    private static final String FRAME = "looks like a Schema Registry frame, which is not read: send plain JSON";

    private final MessageShape shape;
    private final String featuresField;
    /** The form of the vector, or null for raw columns. */
    private final VectorForm form;
    private final int size;
    /** The features of a bad message: an empty vector, or null columns. */
    private final Object blank;
    /** The raw columns of a message, or null for a vector. */
    private final RawColumns columns;
    /** The fast path for plain messages, or null if the form has none. */
    private final PlainReader plain;

    /**
     * @param shape the configured shape of messages
     * @param featuresField name of the vector's field
     * @param form name of the class of the vector's form, without its package
     * @param size number of features that a vector must have
     * @throws Exception the form does not exist
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
     * For messages with raw columns instead of a vector.
     *
     * @param shape the configured shape of messages
     * @param columns the raw columns, as RawColumns takes them
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
        // The parser would take both for UTF-16 or UTF-32 and continue.
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
            // An exception would stop the stream at each start: no message may do that, whatever the parser's bug.
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

    /** Reads the current object: the one with label and features, or one on the path to it. */
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

    /** Returns the detail of a bad message, with its fields or the fitting form if the features are at fault. */
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
        // The parser's offset is -1 before the first token, and may be the end after the last one.
        long at = Math.max(0, Math.min(parser.getTokenLocation().getByteOffset(), length - 1));
        // Jackson has no exception class for this; a test pins the wording.
        String message = error.getOriginalMessage();
        if (message != null && message.startsWith("Duplicate field")) {
            return rejected("duplicate_name", "a name stands twice in one object, second time at byte " + at);
        }
        return rejected("not_json", "not JSON, or not complete, near byte " + at);
    }

    /** Returns whether a message begins with a zero byte and a four-byte schema id. */
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
