package streamscore;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import java.io.IOException;
import java.util.ArrayList;

/**
 * The diagnosis of a message whose features were missing or malformed: it names the message's fields, or the form that
 * fits. Good messages never come here, so they pay no time for it.
 */
final class Diagnosis {
    private static final int MOST_NAMES = 8;
    private static final int LONGEST_NAME = 40;

    private final ArrayList names = new ArrayList();
    private String form;

    /**
     * @param json the parser's factory
     * @param message a message that is JSON
     * @param root the path of fields to the object with the features
     * @param featuresField name of the vector's field, or null
     */
    Diagnosis(JsonFactory json, byte[] message, String[] root, String featuresField) throws IOException {
        JsonParser parser = json.createParser(message);
        try {
            parser.nextToken();
            int depth = 0;
            while (look(parser, depth < root.length ? root[depth] : null, depth < root.length ? null : featuresField)) {
                names.clear();
                depth++;
            }
        } finally {
            parser.close();
        }
    }

    /** Returns the names of the fields of the innermost object on the root's path. */
    String fields() {
        if (names.isEmpty()) {
            return "it has no field";
        }
        StringBuilder text = new StringBuilder("it has ");
        for (int i = 0; i < names.size() && i < MOST_NAMES; i++) {
            text.append(i == 0 ? "" : ", ").append(quoted((String) names.get(i)));
        }
        if (names.size() > MOST_NAMES) {
            text.append(" and ").append(names.size() - MOST_NAMES).append(" more");
        }
        return text.toString();
    }

    /** Returns the probable form of the features, "Spark", "Triple" or "Dense", or null. */
    String form() {
        return form;
    }

    /** Reads an object's fields; returns true, positioned inside it, at the first object field of the wanted name. */
    private boolean look(JsonParser parser, String wanted, String featuresField) throws IOException {
        while (parser.nextToken() == JsonToken.FIELD_NAME) {
            String name = parser.getCurrentName();
            names.add(name);
            JsonToken token = parser.nextToken();
            if (name.equals(wanted) && token == JsonToken.START_OBJECT) {
                return true;
            }
            if (name.equals(featuresField)) {
                form = formOf(parser);
                return false;
            }
            parser.skipChildren();
        }
        return false;
    }

    private static String formOf(JsonParser parser) throws IOException {
        if (parser.currentToken() == JsonToken.START_OBJECT) {
            return "Spark";
        }
        if (parser.currentToken() != JsonToken.START_ARRAY || !parser.nextToken().isNumeric()) {
            return null;
        }
        return parser.nextToken() == JsonToken.START_ARRAY ? "Triple" : "Dense";
    }

    static String quoted(String name) {
        StringBuilder text = new StringBuilder("'");
        for (int i = 0; i < name.length() && i < LONGEST_NAME; i++) {
            char unit = name.charAt(i);
            text.append(Character.isISOControl(unit) || Character.isSurrogate(unit) ? '?' : unit);
        }
        return text.append(name.length() > LONGEST_NAME ? "...'" : "'").toString();
    }
}
