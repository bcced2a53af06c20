package streamscore;

import com.fasterxml.jackson.core.JsonParser;
import java.io.IOException;
import java.io.Serializable;

/**
 * How a message writes its vector. Each form is a class whose source stands in its Python module, in formats/, beside the
 * way that the same form is written. One object serves every message of a stream, so it keeps nothing of any of them.
 */
abstract class VectorForm implements Serializable {
    private static final long serialVersionUID = 1L;

    /** Reads the vector at hand, part by part. */
    abstract void read(JsonParser parser, Reading reading) throws IOException;

    /** Returns the short cut for plain messages of this form, or null where it has none. */
    PlainReader plain(String labelField, String featuresField, int size) {
        return null;
    }
}
