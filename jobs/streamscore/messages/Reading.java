package streamscore;

import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import java.io.IOException;
import java.util.Arrays;
import org.apache.spark.ml.linalg.Vector;
import org.apache.spark.ml.linalg.Vectors;
import org.apache.spark.sql.RowFactory;

/**
 * The parts of one message that have been read, and the gravest fault so far. A vector is read part by part: its form
 * locates each part and calls the method that reads and checks it.
 */
final class Reading {
    private static final int JSON_FAULT = 3;
    private static final int STRUCTURE_FAULT = 2;
    private static final int SIZE_FAULT = 1;
    private static final int NUMBER_FAULT = 0;

    private Double label;
    private boolean hasFeatures;
    private int gravity = -1;
    String reason;
    String detail;

    private int type = -1;
    private long declaredSize = -1;
    private int[] indices;
    private int indexCount = -1;
    private double[] values;
    private int valueCount = -1;

    private final MessageShape shape;
    private final RawColumns columns;
    private final int size;
    private final Object[] cells;

    /**
     * @param shape the configured shape of messages
     * @param columns the raw columns of a message, or null for a vector
     * @param size number of features that a vector must have
     */
    Reading(MessageShape shape, RawColumns columns, int size) {
        this.shape = shape;
        this.columns = columns;
        this.size = size;
        this.cells = columns == null ? null : new Object[columns.count()];
    }

    /** Records a fault; the first fault of the gravest kind is reported. */
    private void fault(int kind, String faultReason, String faultDetail) {
        if (kind > gravity) {
            gravity = kind;
            reason = faultReason;
            detail = faultDetail;
        }
    }

    void notJson(String faultDetail) {
        fault(JSON_FAULT, "not_json", faultDetail);
    }

    void badFeatures(String faultDetail) {
        fault(STRUCTURE_FAULT, "bad_features", faultDetail);
    }

    /** Records that the object with label and features is null. */
    void noValue() {
        fault(STRUCTURE_FAULT, "tombstone", "the message has no value: " + shape.path() + " is null");
        hasFeatures = true;
    }

    /** Returns whether the features' field, or the field of a raw column, was found. */
    boolean hasFeatures() {
        return hasFeatures;
    }

    /** Returns the row of a good message, or null for a bad one, which has a reason and a detail. */
    Object row() {
        if (columns != null && !hasFeatures) {
            badFeatures("the message has none of the fields of message.fields");
        } else if (columns == null && gravity < SIZE_FAULT) {
            judgeFeatures();
        }
        if (gravity >= 0) {
            return null;
        }
        if (columns != null) {
            return RowFactory.create(new Object[] {label, RowFactory.create(cells), null, null});
        }
        Vector features = type == 1
            ? Vectors.dense(Arrays.copyOf(values, valueCount))
            : Vectors.sparse(size, Arrays.copyOf(indices, indexCount), Arrays.copyOf(values, valueCount));
        return RowFactory.create(new Object[] {label, features, null, null});
    }

    void readLabel(JsonParser parser) throws IOException {
        JsonToken token = parser.currentToken();
        if (token == JsonToken.VALUE_NULL) {
            return;
        }
        boolean isTruth = token == JsonToken.VALUE_TRUE || token == JsonToken.VALUE_FALSE;
        if (!shape.labelValues.isEmpty() && (isTruth || token == JsonToken.VALUE_STRING)) {
            label = (Double) shape.labelValues.get(parser.getText());
            if (label != null) {
                return;
            }
        }
        if (!isNumber(parser)) {
            fault(STRUCTURE_FAULT, "bad_label", "the label is not a number" + labelHint(parser, isTruth));
            skip(parser);
            return;
        }
        double number = toDouble(parser);
        if (Double.isNaN(number) || Double.isInfinite(number)) {
            fault(STRUCTURE_FAULT, "bad_label", "the label is not finite");
            return;
        }
        label = Double.valueOf(number);
    }

    private String labelHint(JsonParser parser, boolean isTruth) throws IOException {
        if (!isTruth && parser.currentToken() != JsonToken.VALUE_STRING) {
            return "";
        }
        if (!shape.labelValues.isEmpty()) {
            return ", nor one of the names in message.label_values" + textHint(parser);
        }
        String hint = textHint(parser);
        return hint.isEmpty() ? ", but " + (isTruth ? "true or false" : "text")
            + ": message.label_values says which class that is" : hint;
    }

    /** Returns the hint to add to the detail about a numeric text that does not count as a number. */
    private String textHint(JsonParser parser) throws IOException {
        return !shape.textNumbers && NumberText.isNumber(parser)
            ? ", but a number as text: message.text_numbers: true reads it" : "";
    }

    /** Reads the current value if its name is a column's, and returns whether it is. */
    boolean readColumn(String name, JsonParser parser) throws IOException {
        int place = columns.place(name);
        if (place < 0) {
            return false;
        }
        hasFeatures = true;
        Object cell = columns.read(place, parser, shape.textNumbers);
        if (cell == RawColumns.WRONG) {
            badFeatures("the field " + columns.described(place) + (columns.isNumeric(place) ? textHint(parser) : ""));
            if (parser.currentToken() != JsonToken.END_ARRAY) {
                skip(parser);
            }
        } else if (cell == RawColumns.NOT_FINITE) {
            fault(NUMBER_FAULT, "not_finite", "the field " + columns.named(place) + " is not finite");
        } else {
            cells[place] = cell;
        }
        return true;
    }

    /** Records that the features exist, before a form reads them. */
    void beginFeatures() {
        hasFeatures = true;
    }

    /** Records that the vector is sparse, for a form without a field for the type. */
    void isSparse() {
        type = 0;
    }

    /** Records that the vector is dense, for a form without a field for the type. */
    void isDense() {
        type = 1;
    }

    void readType(JsonParser parser) throws IOException {
        if (!isInt(parser)) {
            badFeatures("the vector's type is not a whole number" + textHint(parser));
            skip(parser);
            return;
        }
        type = toInt(parser);
        if (type != 0 && type != 1) {
            badFeatures("the vector's type is neither 0 nor 1");
        }
    }

    void readSize(JsonParser parser) throws IOException {
        if (parser.currentToken() == JsonToken.VALUE_NULL) {
            return;
        }
        if (!isInt(parser) || toInt(parser) < 0) {
            badFeatures("the vector's size is not a whole number from 0" + textHint(parser));
            skip(parser);
            return;
        }
        declaredSize = toInt(parser);
    }

    void readIndices(JsonParser parser) throws IOException {
        if (parser.currentToken() == JsonToken.VALUE_NULL) {
            return;
        }
        if (parser.currentToken() != JsonToken.START_ARRAY) {
            badFeatures("the indices are not an array");
            skip(parser);
            return;
        }
        indices = new int[32];
        indexCount = 0;
        while (parser.nextToken() != JsonToken.END_ARRAY) {
            if (!isInt(parser)) {
                badFeatures("index number " + indexCount + " is not a whole number" + textHint(parser));
                skip(parser);
                indexCount++;
                continue;
            }
            if (indexCount >= indices.length) {
                indices = Arrays.copyOf(indices, indexCount * 2);
            }
            indices[indexCount++] = toInt(parser);
        }
    }

    void readValues(JsonParser parser) throws IOException {
        if (parser.currentToken() != JsonToken.START_ARRAY) {
            badFeatures("the values are not an array");
            skip(parser);
            return;
        }
        values = new double[32];
        valueCount = 0;
        while (parser.nextToken() != JsonToken.END_ARRAY) {
            if (!isNumber(parser)) {
                badFeatures("value number " + valueCount + " is not a number" + textHint(parser));
                skip(parser);
                valueCount++;
                continue;
            }
            if (valueCount >= values.length) {
                values = Arrays.copyOf(values, valueCount * 2);
            }
            double number = toDouble(parser);
            if (Double.isNaN(number) || Double.isInfinite(number)) {
                fault(NUMBER_FAULT, "not_finite", "value number " + valueCount + " is not finite");
            }
            values[valueCount++] = number;
        }
    }

    /** Checks the vector as a whole. */
    private void judgeFeatures() {
        if (!hasFeatures) {
            badFeatures("the message has no features");
        } else if (type < 0) {
            badFeatures("the vector has no type");
        } else if (valueCount < 0) {
            badFeatures("the vector has no values");
        } else if (type == 0) {
            judgeSparse();
        } else if (valueCount != size) {
            fault(SIZE_FAULT, "wrong_size", valueCount + " features, expected " + size);
        }
    }

    private void judgeSparse() {
        if (declaredSize < 0) {
            badFeatures("the vector has no size");
        } else if (indexCount < 0) {
            badFeatures("the vector has no indices");
        } else if (indexCount != valueCount) {
            badFeatures(indexCount + " indices, but " + valueCount + " values");
        } else {
            long previous = -1;
            for (int i = 0; i < indexCount; i++) {
                if (indices[i] <= previous) {
                    badFeatures("index number " + i + " is negative or not above the one before it");
                    return;
                }
                previous = indices[i];
            }
            if (previous >= declaredSize) {
                badFeatures("an index is not below the size");
            } else if (declaredSize != size) {
                fault(SIZE_FAULT, "wrong_size", declaredSize + " features, expected " + size);
            }
        }
    }

    /** Skips the current value. NaN and Infinity inside it are not JSON, although the parser accepts them. */
    void skip(JsonParser parser) throws IOException {
        int depth = 0;
        JsonToken token = parser.currentToken();
        while (true) {
            if (token.isStructStart()) {
                depth++;
            } else if (token.isStructEnd()) {
                depth--;
            } else if (token == JsonToken.VALUE_NUMBER_FLOAT && parser.isNaN()) {
                notJson("a number that JSON does not know");
            }
            if (depth == 0) {
                return;
            }
            token = parser.nextToken();
            if (token == null) {
                return;
            }
        }
    }

    private boolean isNumber(JsonParser parser) throws IOException {
        JsonToken token = parser.currentToken();
        return token == JsonToken.VALUE_NUMBER_INT || token == JsonToken.VALUE_NUMBER_FLOAT
            || (shape.textNumbers && NumberText.isNumber(parser));
    }

    private static double toDouble(JsonParser parser) throws IOException {
        return parser.currentToken() == JsonToken.VALUE_STRING ? NumberText.toDouble(parser) : parser.getDoubleValue();
    }

    private boolean isInt(JsonParser parser) throws IOException {
        if (parser.currentToken() == JsonToken.VALUE_NUMBER_INT) {
            return parser.getNumberType() == JsonParser.NumberType.INT;
        }
        if (!shape.textNumbers || !NumberText.isLong(parser)) {
            return false;
        }
        long number = NumberText.toLong(parser);
        return number == (int) number;
    }

    private static int toInt(JsonParser parser) throws IOException {
        return parser.currentToken() == JsonToken.VALUE_STRING ? (int) NumberText.toLong(parser) : parser.getIntValue();
    }
}
