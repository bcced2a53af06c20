package streamscore;

import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import java.io.IOException;
import java.io.Serializable;
import java.math.BigDecimal;
import java.time.DateTimeException;
import java.time.LocalDate;
import java.time.OffsetDateTime;
import java.util.ArrayList;
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

    /** @param columns a line for each column, its type and its name, as in "INT I1" */
    public RawColumns(String columns) {
        String[] listed = columns.split("\n");
        names = new String[listed.length];
        types = new String[listed.length];
        for (int i = 0; i < listed.length; i++) {
            int blank = listed[i].indexOf(' ');
            types[i] = listed[i].substring(0, blank);
            names[i] = listed[i].substring(blank + 1);
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
        String type = types[place];
        return type.equals("DOUBLE") || type.equals("FLOAT") || type.endsWith("INT") || type.startsWith("DECIMAL");
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
        if (type.startsWith("ARRAY")) {
            return token == JsonToken.START_ARRAY ? readArray(parser) : WRONG;
        }
        if (type.equals("DATE") || type.equals("TIMESTAMP")) {
            return token == JsonToken.VALUE_STRING ? readTime(type, parser.getText()) : WRONG;
        }
        if (token == JsonToken.VALUE_STRING) {
            return textNumbers ? readText(type, parser) : WRONG;
        }
        if (type.equals("DOUBLE")) {
            return readDouble(token, parser);
        }
        if (type.equals("FLOAT")) {
            return narrowed(readDouble(token, parser));
        }
        if (type.startsWith("DECIMAL")) {
            return readDecimal(type, token, parser);
        }
        if (token != JsonToken.VALUE_NUMBER_INT) {
            return WRONG;
        }
        JsonParser.NumberType size = parser.getNumberType();
        return size == JsonParser.NumberType.BIG_INTEGER ? WRONG : whole(type, parser.getLongValue());
    }

    /** Returns a whole number of a type, or the mark for one out of its range. */
    private static Object whole(String type, long number) {
        if (type.equals("INT")) {
            return number == (int) number ? (Object) Integer.valueOf((int) number) : WRONG;
        }
        if (type.equals("SMALLINT")) {
            return number == (short) number ? (Object) Short.valueOf((short) number) : WRONG;
        }
        if (type.equals("TINYINT")) {
            return number == (byte) number ? (Object) Byte.valueOf((byte) number) : WRONG;
        }
        return Long.valueOf(number);
    }

    private static Object narrowed(Object number) {
        if (!(number instanceof Double)) {
            return number;
        }
        float narrow = ((Double) number).floatValue();
        return Float.isInfinite(narrow) ? NOT_FINITE : (Object) Float.valueOf(narrow);
    }

    private static Object readDecimal(String type, JsonToken token, JsonParser parser) throws IOException {
        if (token != JsonToken.VALUE_NUMBER_INT && token != JsonToken.VALUE_NUMBER_FLOAT) {
            return WRONG;
        }
        return parser.isNaN() ? NOT_FINITE : decimal(type, parser.getDecimalValue());
    }

    /** Returns a number with the type's scale, or the mark for one that has other digits than the type can hold. */
    private static Object decimal(String type, BigDecimal read) {
        int comma = type.indexOf(',');
        int digits = Integer.parseInt(type.substring(type.indexOf('(') + 1, comma));
        int scale = Integer.parseInt(type.substring(comma + 1, type.length() - 1));
        BigDecimal number = read.signum() == 0 ? BigDecimal.ZERO : read.stripTrailingZeros();
        boolean fits = number.scale() <= scale && (long) number.precision() - number.scale() <= digits - scale;
        return fits ? (Object) number.setScale(scale) : WRONG;
    }

    /** Returns the numbers of an array, or a mark; either way, the parser is at the array's end. */
    private static Object readArray(JsonParser parser) throws IOException {
        ArrayList numbers = new ArrayList();
        Object mark = null;
        while (parser.nextToken() != JsonToken.END_ARRAY) {
            Object number = readDouble(parser.currentToken(), parser);
            if (number == WRONG) {
                parser.skipChildren();
            }
            if (number == WRONG || number == NOT_FINITE) {
                mark = mark == WRONG ? WRONG : number;
            }
            numbers.add(number);
        }
        return mark == null ? numbers.toArray() : mark;
    }

    /** Returns a date such as 2026-01-31, or a time with an offset such as 2026-01-31T12:00:00.5Z. */
    private static Object readTime(String type, String text) {
        boolean hasPlainYear = text.length() >= 10 && Character.isDigit(text.charAt(0)) && text.charAt(4) == '-';
        if (!hasPlainYear) {
            return WRONG;
        }
        try {
            return type.equals("DATE") ? (Object) LocalDate.parse(text) : OffsetDateTime.parse(text).toInstant();
        } catch (DateTimeException error) {
            return WRONG;
        }
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
        if (type.equals("FLOAT")) {
            return NumberText.isNumber(parser) ? narrowed(finite(NumberText.toDouble(parser))) : WRONG;
        }
        if (type.startsWith("DECIMAL")) {
            return NumberText.isNumber(parser) ? decimal(type, new BigDecimal(parser.getText())) : WRONG;
        }
        if (!NumberText.isLong(parser)) {
            return WRONG;
        }
        return whole(type, NumberText.toLong(parser));
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
