package streamscore;

import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import java.io.IOException;
import java.io.Serializable;
import java.util.HashMap;

/**
 * The raw columns of a message without a vector: their names, their types, and how their values are read. A value of
 * another type than its column's is refused with the column's name; only numeric texts are converted, if configured.
 */
public final class RawColumns implements Serializable {
    private static final long serialVersionUID = 1L;

    /** Marks for a value of another type, and for a number that is not finite. */
    static final Object WRONG = new Object();
    static final Object NOT_FINITE = new Object();

    private final String[] names;
    private final String[] types;
    private final HashMap places = new HashMap();

    /** @param columns the columns, as in "I1 INT,C1 STRING" */
    public RawColumns(String columns) {
        String[] listed = columns.split(",");
        names = new String[listed.length];
        types = new String[listed.length];
        for (int i = 0; i < listed.length; i++) {
            String[] parts = listed[i].split(" ");
            names[i] = parts[0];
            types[i] = parts[1];
            places.put(names[i], Integer.valueOf(i));
        }
    }

    int count() {
        return names.length;
    }

    /** Returns the position of the column of that name, or -1. */
    int place(String name) {
        Object place = places.get(name);
        return place == null ? -1 : ((Integer) place).intValue();
    }

    String described(int place) {
        return names[place] + " is not of the type " + types[place];
    }

    String named(int place) {
        return names[place];
    }

    boolean isNumeric(int place) {
        return !types[place].equals("STRING") && !types[place].equals("BOOLEAN");
    }

    /** Returns the current value, null, or one of the two marks above. */
    Object read(int place, JsonParser parser, boolean textNumbers) throws IOException {
        JsonToken token = parser.currentToken();
        String type = types[place];
        if (token == JsonToken.VALUE_NULL) {
            return null;
        }
        if (type.equals("STRING")) {
            return token == JsonToken.VALUE_STRING && isText(parser.getText()) ? parser.getText() : WRONG;
        }
        if (type.equals("BOOLEAN")) {
            return token == JsonToken.VALUE_TRUE || token == JsonToken.VALUE_FALSE
                ? (Object) Boolean.valueOf(token == JsonToken.VALUE_TRUE) : WRONG;
        }
        if (token == JsonToken.VALUE_STRING) {
            return textNumbers ? readText(type, parser) : WRONG;
        }
        if (type.equals("DOUBLE")) {
            return readDouble(token, parser);
        }
        if (token != JsonToken.VALUE_NUMBER_INT) {
            return WRONG;
        }
        JsonParser.NumberType size = parser.getNumberType();
        if (type.equals("INT")) {
            return size == JsonParser.NumberType.INT ? (Object) Integer.valueOf(parser.getIntValue()) : WRONG;
        }
        return size == JsonParser.NumberType.BIG_INTEGER ? WRONG : (Object) Long.valueOf(parser.getLongValue());
    }

    private static Object readDouble(JsonToken token, JsonParser parser) throws IOException {
        if (token != JsonToken.VALUE_NUMBER_INT && token != JsonToken.VALUE_NUMBER_FLOAT) {
            return WRONG;
        }
        return finite(parser.getDoubleValue());
    }

    private static Object readText(String type, JsonParser parser) throws IOException {
        if (type.equals("DOUBLE")) {
            return NumberText.isNumber(parser) ? finite(NumberText.toDouble(parser)) : WRONG;
        }
        if (!NumberText.isLong(parser)) {
            return WRONG;
        }
        long number = NumberText.toLong(parser);
        if (type.equals("INT")) {
            return number == (int) number ? (Object) Integer.valueOf((int) number) : WRONG;
        }
        return Long.valueOf(number);
    }

    private static Object finite(double number) {
        return Double.isNaN(number) || Double.isInfinite(number) ? NOT_FINITE : (Object) Double.valueOf(number);
    }

    /** Returns whether all surrogates are paired: UTF-8 cannot encode a lone one, and Spark would write a "?". */
    private static boolean isText(String text) {
        for (int i = 0; i < text.length(); i++) {
            char unit = text.charAt(i);
            if (Character.isHighSurrogate(unit)) {
                i++;
                if (i == text.length() || !Character.isLowSurrogate(text.charAt(i))) {
                    return false;
                }
            } else if (Character.isLowSurrogate(unit)) {
                return false;
            }
        }
        return true;
    }
}
