package streamscore;

import com.fasterxml.jackson.core.io.JsonStringEncoder;
import java.nio.charset.StandardCharsets;
import org.apache.spark.sql.api.java.UDF1;

/**
 * Text as JSON: bytes of UTF-8 in, what Spark's to_json makes of the same text out, or the word null. With to_json in it
 * Spark does not compile a step of a plan, nor join it to the steps around it; with a function of Java it does.
 */
public final class JsonText implements UDF1 {
    private static final long serialVersionUID = 1L;

    private static final byte[] NULL = {'n', 'u', 'l', 'l'};

    public Object call(Object text) {
        if (text == null) {
            return NULL;
        }
        byte[] inside = JsonStringEncoder.getInstance().quoteAsUTF8(new String((byte[]) text, StandardCharsets.UTF_8));
        byte[] quoted = new byte[inside.length + 2];
        quoted[0] = '"';
        System.arraycopy(inside, 0, quoted, 1, inside.length);
        quoted[quoted.length - 1] = '"';
        return quoted;
    }
}
