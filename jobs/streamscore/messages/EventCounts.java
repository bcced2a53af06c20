package streamscore;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.Serializable;
import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.zip.DeflaterOutputStream;
import org.apache.spark.sql.Column;
import org.apache.spark.sql.catalyst.InternalRow;
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
 * An aggregate function that counts the events of a batch, in one pass: all of them by their age, and the rejected ones by
 * the reason.
 *
 * Its inputs are the time from which ages are counted, the time of the event (both bigint, in epoch milliseconds), and the
 * reason of its rejection (string, null if it was not rejected). It returns bytes (zlib): numbers of 8 bytes, which
 * messages/event_counts.py reads. They are the time from which ages are counted, the sum of the ages, the events of each
 * reason, and the events of each bin of ages. Below 100 ms a bin is 10 ms wide; an older age has two significant digits.
 *
 * Compiled by Janino, hence raw types.
 */
public final class EventCounts extends TypedImperativeAggregate implements Serializable {
    private static final long serialVersionUID = 1L;
    private static final int OF_BATCH = 2;
    private static final int NARROW = 10;
    private static final int OF_DECADE = 90;
    private static final int DECADES = 8;
    private static final int BINS = NARROW + OF_DECADE * DECADES + 1;

    private final List inputs;
    private final List reasons;
    private final int bufferOffset;
    private final int inputOffset;

    private transient Expression[] expressions;
    /** Position of each reason. */
    private transient Map places;

    private EventCounts(List inputs, List reasons, int bufferOffset, int inputOffset) {
        this.inputs = inputs;
        this.reasons = reasons;
        this.bufferOffset = bufferOffset;
        this.inputOffset = inputOffset;
    }

    /**
     * @param columns SQL of the inputs, as above
     * @param reasons the reasons of rejection
     */
    public static Column column(List columns, List reasons) {
        List inputs = new ArrayList();
        for (int i = 0; i < columns.size(); i++) {
            inputs.add(functions.expr((String) columns.get(i)).expr());
        }
        return new Column(new EventCounts(inputs, new ArrayList(reasons), 0, 0).toAggregateExpression());
    }

    public Object createAggregationBuffer() {
        return new long[OF_BATCH + reasons.size() + BINS];
    }

    public Object update(Object buffer, InternalRow row) {
        if (places == null) {
            locate();
        }
        long[] counts = (long[]) buffer;
        Object reason = expressions[2].eval(row);
        if (reason != null) {
            Integer place = (Integer) places.get(reason.toString());
            if (place != null) {
                counts[OF_BATCH + place.intValue()]++;
            }
        }
        long origin = ((Long) expressions[0].eval(row)).longValue();
        Object time = expressions[1].eval(row);
        long age = time == null ? 0L : origin - ((Long) time).longValue();
        counts[0] = origin;
        counts[1] += age;
        counts[OF_BATCH + places.size() + bin(age)]++;
        return buffer;
    }

    private static int bin(long age) {
        if (age < 0) {
            return 0;
        }
        int first = 0;
        long width = 10;
        while (age >= 100 * width) {
            width *= 10;
            first += OF_DECADE;
            if (first >= OF_DECADE * DECADES) {
                return BINS - 1;
            }
        }
        return first + (int) (age / width);
    }

    public Object merge(Object buffer, Object other) {
        long[] counts = (long[]) buffer;
        long[] more = (long[]) other;
        counts[0] = Math.max(counts[0], more[0]);
        for (int i = 1; i < counts.length; i++) {
            counts[i] += more[i];
        }
        return buffer;
    }

    /** Returns the compressed counts: Spark reports the observations of a stream repeatedly. */
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
        long[] counts = (long[]) buffer;
        ByteBuffer bytes = ByteBuffer.allocate(8 * counts.length);
        for (int i = 0; i < counts.length; i++) {
            bytes.putLong(counts[i]);
        }
        return bytes.array();
    }

    public Object deserialize(byte[] bytes) {
        ByteBuffer in = ByteBuffer.wrap(bytes);
        long[] counts = new long[bytes.length / 8];
        for (int i = 0; i < counts.length; i++) {
            counts[i] = in.getLong();
        }
        return counts;
    }

    private void locate() {
        Expression[] found = new Expression[inputs.size()];
        for (int i = 0; i < found.length; i++) {
            found[i] = (Expression) inputs.get(i);
        }
        Map at = new HashMap();
        for (int i = 0; i < reasons.size(); i++) {
            at.put(reasons.get(i), Integer.valueOf(i));
        }
        expressions = found;
        places = at;
    }

    /** Spark calls the time of a batch non-deterministic, which an observation may not be; within a batch it is constant. */
    public boolean deterministic() {
        return true;
    }

    public Seq children() {
        return JavaConverters.asScalaBuffer(inputs).toIndexedSeq();
    }

    public TreeNode withNewChildrenInternal(IndexedSeq newChildren) {
        List list = new ArrayList(JavaConverters.seqAsJavaList(newChildren));
        return new EventCounts(list, reasons, bufferOffset, inputOffset);
    }

    public ImperativeAggregate withNewMutableAggBufferOffset(int offset) {
        return new EventCounts(inputs, reasons, offset, inputOffset);
    }

    public ImperativeAggregate withNewInputAggBufferOffset(int offset) {
        return new EventCounts(inputs, reasons, bufferOffset, offset);
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
        return other instanceof EventCounts;
    }

    public int productArity() {
        return 4;
    }

    public Object productElement(int at) {
        switch (at) {
            case 0:
                return inputs;
            case 1:
                return reasons;
            case 2:
                return Integer.valueOf(bufferOffset);
            default:
                return Integer.valueOf(inputOffset);
        }
    }

    public boolean equals(Object other) {
        if (!(other instanceof EventCounts)) {
            return false;
        }
        EventCounts that = (EventCounts) other;
        return inputs.equals(that.inputs)
            && reasons.equals(that.reasons)
            && bufferOffset == that.bufferOffset
            && inputOffset == that.inputOffset;
    }
}
