package streamscore;

import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.io.Serializable;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.Iterator;
import java.util.List;
import java.util.Map;
import java.util.zip.DeflaterOutputStream;
import org.apache.spark.sql.Column;
import org.apache.spark.sql.catalyst.InternalRow;
import org.apache.spark.sql.catalyst.expressions.BoundReference;
import org.apache.spark.sql.catalyst.expressions.Expression;
import org.apache.spark.sql.catalyst.expressions.aggregate.ImperativeAggregate;
import org.apache.spark.sql.catalyst.expressions.aggregate.TypedImperativeAggregate;
import org.apache.spark.sql.catalyst.trees.TreeNode;
import org.apache.spark.sql.functions;
import org.apache.spark.sql.types.DataType;
import org.apache.spark.sql.types.DataTypes;
import scala.collection.IndexedSeq;
import scala.collection.JavaConverters;
import scala.collection.Seq;

/**
 * An aggregate function that sums up, by window of event time and in one pass, the statistic of quality of each model and
 * the paired statistic of the champion with each other model.
 *
 * Its inputs are the time of an event in epoch milliseconds (bigint), whether the event was scored (boolean), the label
 * (double, null without one), and then for each model the prediction, the score and the score of the labelled class
 * (doubles). It returns bytes (zlib), in the format of WindowSums.write, which quality/packed.py reads.
 *
 * A Catalyst function, because an Aggregator would create objects for every row. Compiled by Janino, hence raw types.
 */
public final class QualitySums extends TypedImperativeAggregate implements Serializable {
    private static final long serialVersionUID = 1L;
    private static final int OF_EVENT = 3;
    private static final int OF_MODEL = 3;

    private final List inputs;
    private final long windowMs;
    private final String models;
    private final int champion;
    private final int bufferOffset;
    private final int inputOffset;

    private transient ModelSums[] blank;
    private transient Expression[] expressions;
    /** Position of each input in a row; -1: the input is an expression to evaluate. */
    private transient int[] places;
    private transient double[] predictions;
    private transient double[] scores;

    private QualitySums(
        List inputs, long windowMs, String models, int champion, int bufferOffset, int inputOffset
    ) {
        this.inputs = inputs;
        this.windowMs = windowMs;
        this.models = models;
        this.champion = champion;
        this.bufferOffset = bufferOffset;
        this.inputOffset = inputOffset;
    }

    /**
     * @param columns SQL of the inputs, as above
     * @param windowMs length of a window in milliseconds; 0: all events are in one window, which starts at 0
     * @param models kind of score, number of classes and scale of margins of each model, as in
     *     "probability 2 1.0;margin 2 1.7"
     * @param champion position of the model with which the others are compared
     */
    public static Column column(List columns, long windowMs, String models, int champion) {
        List inputs = new ArrayList();
        for (int i = 0; i < columns.size(); i++) {
            inputs.add(functions.expr((String) columns.get(i)).expr());
        }
        QualitySums sums = new QualitySums(inputs, windowMs, models, champion, 0, 0);
        if (inputs.size() != OF_EVENT + OF_MODEL * sums.blanks().length) {
            throw new IllegalArgumentException(inputs.size() + " columns do not fit the models " + models);
        }
        return new Column(sums.toAggregateExpression());
    }

    public Object createAggregationBuffer() {
        return new HashMap();
    }

    public Object update(Object buffer, InternalRow row) {
        if (places == null) {
            locate();
        }
        if (!flag(row, 1)) {
            return buffer;
        }
        long window = windowMs == 0 ? 0 : Math.floorDiv(((Long) value(row, 0)).longValue(), windowMs) * windowMs;
        WindowSums sums = of((Map) buffer, window);
        for (int i = 0; i < predictions.length; i++) {
            int at = OF_EVENT + OF_MODEL * i;
            predictions[i] = number(row, at);
            scores[i] = number(row, sums.isOfSeveral(i) ? at + 2 : at + 1);
        }
        sums.add(number(row, 2), predictions, scores);
        return buffer;
    }

    public Object merge(Object buffer, Object other) {
        Iterator windows = ((Map) other).entrySet().iterator();
        while (windows.hasNext()) {
            Map.Entry window = (Map.Entry) windows.next();
            of((Map) buffer, ((Long) window.getKey()).longValue()).merge((WindowSums) window.getValue());
        }
        return buffer;
    }

    /** Returns the compressed sums: Spark reports the observations of a stream repeatedly. */
    public Object eval(Object buffer) {
        ByteArrayOutputStream bytes = new ByteArrayOutputStream();
        DeflaterOutputStream out = new DeflaterOutputStream(bytes);
        try {
            out.write(serialize(buffer));
            out.close();
        } catch (IOException error) {
            throw new IllegalStateException(error);
        }
        return bytes.toByteArray();
    }

    public byte[] serialize(Object buffer) {
        ByteArrayOutputStream bytes = new ByteArrayOutputStream();
        DataOutputStream out = new DataOutputStream(bytes);
        try {
            Iterator windows = ((Map) buffer).entrySet().iterator();
            while (windows.hasNext()) {
                Map.Entry window = (Map.Entry) windows.next();
                ((WindowSums) window.getValue()).write(((Long) window.getKey()).longValue(), out);
            }
        } catch (IOException error) {
            throw new IllegalStateException(error);
        }
        return bytes.toByteArray();
    }

    public Object deserialize(byte[] bytes) {
        Map buffer = new HashMap();
        DataInputStream in = new DataInputStream(new ByteArrayInputStream(bytes));
        try {
            while (in.available() > 0) {
                WindowSums sums = of(buffer, in.readLong());
                sums.read(in.readInt(), in);
            }
        } catch (IOException error) {
            throw new IllegalStateException(error);
        }
        return buffer;
    }

    private WindowSums of(Map buffer, long window) {
        Long key = Long.valueOf(window);
        WindowSums sums = (WindowSums) buffer.get(key);
        if (sums == null) {
            sums = new WindowSums(blanks(), champion);
            buffer.put(key, sums);
        }
        return sums;
    }

    private ModelSums[] blanks() {
        if (blank == null) {
            String[] parts = models.split(";");
            ModelSums[] made = new ModelSums[parts.length];
            for (int i = 0; i < parts.length; i++) {
                String[] words = parts[i].split(" ");
                made[i] = new ModelSums(words[0], Integer.parseInt(words[1]), Double.parseDouble(words[2]));
            }
            blank = made;
        }
        return blank;
    }

    private void locate() {
        Expression[] found = new Expression[inputs.size()];
        int[] at = new int[found.length];
        for (int i = 0; i < found.length; i++) {
            found[i] = (Expression) inputs.get(i);
            at[i] = found[i] instanceof BoundReference ? ((BoundReference) found[i]).ordinal() : -1;
        }
        predictions = new double[blanks().length];
        scores = new double[predictions.length];
        expressions = found;
        places = at;
    }

    private Object value(InternalRow row, int input) {
        return expressions[input].eval(row);
    }

    private boolean flag(InternalRow row, int input) {
        return ((Boolean) value(row, input)).booleanValue();
    }

    /** Returns a number of a row, NaN for null. */
    private double number(InternalRow row, int input) {
        int place = places[input];
        if (place >= 0) {
            return row.isNullAt(place) ? Double.NaN : row.getDouble(place);
        }
        Object found = value(row, input);
        return found == null ? Double.NaN : ((Double) found).doubleValue();
    }

    public Seq children() {
        return JavaConverters.asScalaBuffer(inputs).toIndexedSeq();
    }

    public TreeNode withNewChildrenInternal(IndexedSeq newChildren) {
        List list = new ArrayList(JavaConverters.seqAsJavaList(newChildren));
        return new QualitySums(list, windowMs, models, champion, bufferOffset, inputOffset);
    }

    public ImperativeAggregate withNewMutableAggBufferOffset(int offset) {
        return new QualitySums(inputs, windowMs, models, champion, offset, inputOffset);
    }

    public ImperativeAggregate withNewInputAggBufferOffset(int offset) {
        return new QualitySums(inputs, windowMs, models, champion, bufferOffset, offset);
    }

    public int mutableAggBufferOffset() {
        return bufferOffset;
    }

    public int inputAggBufferOffset() {
        return inputOffset;
    }

    public DataType dataType() {
        return DataTypes.BinaryType;
    }

    public boolean nullable() {
        return false;
    }

    public boolean canEqual(Object other) {
        return other instanceof QualitySums;
    }

    public int productArity() {
        return 6;
    }

    public Object productElement(int at) {
        switch (at) {
            case 0:
                return inputs;
            case 1:
                return Long.valueOf(windowMs);
            case 2:
                return models;
            case 3:
                return Integer.valueOf(champion);
            case 4:
                return Integer.valueOf(bufferOffset);
            default:
                return Integer.valueOf(inputOffset);
        }
    }

    public boolean equals(Object other) {
        if (!(other instanceof QualitySums)) {
            return false;
        }
        QualitySums that = (QualitySums) other;
        return inputs.equals(that.inputs)
            && windowMs == that.windowMs
            && models.equals(that.models)
            && champion == that.champion
            && bufferOffset == that.bufferOffset
            && inputOffset == that.inputOffset;
    }
}
