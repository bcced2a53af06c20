package streamscore;

import com.fasterxml.jackson.core.JsonParser;
import java.io.IOException;
import java.io.Serializable;

/**
 * A form in which a message writes its vector. The source of each form's class is in its Python module in formats/,
 * beside the form's encoder. One object reads every message of a stream, so it keeps no state between messages.
 */
abstract class VectorForm implements Serializable {
    private static final long serialVersionUID = 1L;

    /** Reads the current vector, part by part. */
    abstract void read(JsonParser parser, Reading reading) throws IOException;

    /** Returns the fast path for plain messages of this form, or null if it has none. */
    PlainReader plain(String labelField, String featuresField, int size) {
        return null;
    }
}
