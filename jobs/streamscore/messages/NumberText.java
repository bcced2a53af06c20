package streamscore;

import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import java.io.IOException;

/**
 * A number in a message that is written as text. The text must be a JSON number and nothing else: no blank, no plus
 * sign, no leading zero, not NaN. Its value is what the parser reads from the number without quotes.
 */
final class NumberText {
    /** Length of the longest number that the parser reads. */
    private static final int LONGEST = 1000;

    private NumberText() {
    }

    /** Returns whether the current value is a numeric text. */
    static boolean isNumber(JsonParser parser) throws IOException {
        return parser.currentToken() == JsonToken.VALUE_STRING && endOfWhole(parser) != 0;
    }

    /** Returns whether the current value is the text of a whole number of at most 64 bits. */
    static boolean isLong(JsonParser parser) throws IOException {
        if (parser.currentToken() != JsonToken.VALUE_STRING || endOfWhole(parser) != parser.getTextLength()
            || parser.getTextLength() == 0) {
            return false;
        }
        try {
            Long.parseLong(parser.getText());
            return true;
        } catch (NumberFormatException tooLarge) {
            return false;
        }
    }

    /** Returns the number of a numeric text. */
    static double toDouble(JsonParser parser) throws IOException {
        double number = Double.parseDouble(parser.getText());
        boolean isWhole = endOfWhole(parser) == parser.getTextLength();
        return isWhole ? number + 0.0 : number; // the parser reads the whole number -0 as 0
    }

    /** Returns the whole number of the text of a whole number. */
    static long toLong(JsonParser parser) throws IOException {
        return Long.parseLong(parser.getText());
    }

    /** Returns the end of the whole part of a numeric text, or 0 if the text is not a number. */
    private static int endOfWhole(JsonParser parser) throws IOException {
        char[] text = parser.getTextCharacters();
        int start = parser.getTextOffset();
        int end = start + parser.getTextLength();
        if (end - start > LONGEST) {
            return 0;
        }
        int first = start < end && text[start] == '-' ? start + 1 : start;
        int at = afterDigits(text, first, end);
        if (at == first || (text[first] == '0' && at > first + 1)) {
            return 0;
        }
        int whole = at;
        if (at < end && text[at] == '.') {
            int fraction = at + 1;
            at = afterDigits(text, fraction, end);
            if (at == fraction) {
                return 0;
            }
        }
        if (at < end && (text[at] == 'e' || text[at] == 'E')) {
            int exponent = at + 1;
            if (exponent < end && (text[exponent] == '+' || text[exponent] == '-')) {
                exponent++;
            }
            at = afterDigits(text, exponent, end);
            if (at == exponent) {
                return 0;
            }
        }
        return at == end ? whole - start : 0;
    }

    private static int afterDigits(char[] text, int from, int end) {
        int at = from;
        while (at < end && text[at] >= '0' && text[at] <= '9') {
            at++;
        }
        return at;
    }
}
