package streamscore;

import com.fasterxml.jackson.core.io.JsonStringEncoder;
import java.nio.charset.StandardCharsets;
import org.apache.spark.sql.api.java.UDF1;

/**
 * Text as JSON: UTF-8 bytes in, the result of Spark's to_json for the same text out, or the word null. Spark does not
 * compile a plan's step that contains to_json, nor fuse it with its neighbours; it does so with a Java function.
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
