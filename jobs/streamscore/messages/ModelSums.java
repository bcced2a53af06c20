package streamscore;

import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.util.Arrays;

/**
 * The statistic of quality of one model over some events, as defined by quality/statistic.py, whose function `of_rows`
 * is the reference. Counts are kept by bin, prediction and label together; the reader sums them by pairs of these.
 */
final class ModelSums {
    private static final int BINS = 512;
    private static final int PER_LOGIT = 16;
    private static final int UNBINNED = BINS;
    private static final double CLIP = Math.pow(2, -52);
    /** Labels and predictions from this number on share one code with fractions. */
    private static final int CLASSES = 100;
    private static final int SUMS = 10;
    private static final long FREE = -1;

    private final String kind;
    private final int classes;
    private final double scale;
    private final boolean isMargin;
    private final boolean isOfLabelledClass;
    /** Number of labels and predictions with codes of their own. */
    private final int known;

    private long[] keys = new long[16];
    private long[] counts = new long[16];
    private int used;
    private long lossEvents;
    private long declined;
    private final double[] sums = new double[SUMS];
    private double lastLoss;
    private double lastSquaredError;

    /**
     * @param kind kind of the scores: "probability" of class 1, "margin", or "class_probability" of the labelled class
     * @param classes number of classes of the model
     * @param scale divisor of margins
     */
    ModelSums(String kind, int classes, double scale) {
        this.kind = kind;
        this.classes = classes;
        this.scale = scale;
        this.isMargin = kind.equals("margin");
        this.isOfLabelledClass = kind.equals("class_probability");
        this.known = Math.max(classes, CLASSES);
        Arrays.fill(keys, FREE);
    }

    /** Returns empty sums of the same kind. */
    ModelSums blank() {
        return new ModelSums(kind, classes, scale);
    }

    /** Returns whether the score to count is that of the labelled class. */
    boolean isOfSeveral() {
        return classes > 2;
    }

    /** Adds an event; NaN means no label, or that the model declined the event. */
    void add(double label, double prediction, double score) {
        if (prediction != prediction) {
            declined++;
            return;
        }
        int bin = UNBINNED;
        lastLoss = Double.NaN;
        if (isOfSeveral()) {
            if (isOfLabelledClass && label == label && score >= 0 && score <= 1) {
                addLoss(-Math.log(clipped(score)));
            }
        } else if (isMargin) {
            bin = score - score == 0 ? bin(score / scale) : UNBINNED;
        } else if (score >= 0 && score <= 1) {
            bin = bin(Math.log(score / (1 - score)));
            addProbability(label, score);
        }
        long codes = (codeOrNone(label) + 1) * (known + 2L) + codeOrNone(prediction) + 1;
        count(codes * (BINS + 1) + bin, 1);
    }

    /** Returns the last event's log loss; NaN unless its label is 0 or 1 and its score a probability. */
    double lastLoss() {
        return lastLoss;
    }

    /** Returns the last event's squared error, if its log loss is known. */
    double lastSquaredError() {
        return lastSquaredError;
    }

    private void addProbability(double label, double p) {
        double q = clipped(p);
        double miss = -Math.log1p(-q);
        sums[0] += p;
        sums[1] += p * p;
        sums[2] += miss;
        if (label == 0 || label == 1) {
            double loss = label == 1 ? -Math.log(q) : miss;
            sums[3] += p;
            sums[4] += p * p;
            sums[5] += p * label;
            sums[8] += loss * label;
            sums[9] += (miss - loss) * label;
            addLoss(loss);
            lastLoss = loss;
            lastSquaredError = (p - label) * (p - label);
        }
    }

    private void addLoss(double loss) {
        lossEvents++;
        sums[6] += loss;
        sums[7] += loss * loss;
    }

    private static double clipped(double p) {
        return Math.min(Math.max(p, CLIP), 1 - CLIP);
    }

    private static int bin(double logit) {
        return (int) Math.max(0, Math.min(BINS - 1, Math.floor(logit * PER_LOGIT) + BINS / 2));
    }

    private int codeOrNone(double number) {
        return number != number ? -1 : code(number, known);
    }

    /** Returns the number of a class, or, for all other numbers, the number after the last class. */
    static int code(double number, int classes) {
        int whole = (int) number;
        return whole == number && whole >= 0 && whole < classes ? whole : classes;
    }

    private void count(long key, long events) {
        int mask = keys.length - 1;
        int place = (int) (key ^ key >>> 9) & mask;
        while (keys[place] != key) {
            if (keys[place] == FREE) {
                if (2 * used >= keys.length) {
                    grow();
                    count(key, events);
                    return;
                }
                keys[place] = key;
                used++;
                break;
            }
            place = place + 1 & mask;
        }
        counts[place] += events;
    }

    private void grow() {
        long[] oldKeys = keys;
        long[] oldCounts = counts;
        keys = new long[2 * oldKeys.length];
        counts = new long[2 * oldKeys.length];
        Arrays.fill(keys, FREE);
        used = 0;
        for (int i = 0; i < oldKeys.length; i++) {
            if (oldKeys[i] != FREE) {
                count(oldKeys[i], oldCounts[i]);
            }
        }
    }

    void merge(ModelSums other) {
        for (int i = 0; i < other.keys.length; i++) {
            if (other.keys[i] != FREE) {
                count(other.keys[i], other.counts[i]);
            }
        }
        lossEvents += other.lossEvents;
        declined += other.declined;
        for (int i = 0; i < SUMS; i++) {
            sums[i] += other.sums[i];
        }
    }

    /**
     * Writes: labelled events whose log loss is known (long), declined events (long), the sums in the order of SUMS in
     * statistic.py (doubles), the number of codes (int), the number of counts (int), and each count: key (long) and
     * events (long), where key = ((label code + 1) * codes + prediction code + 1) * 513 + bin.
     */
    void write(DataOutputStream out) throws IOException {
        out.writeLong(lossEvents);
        out.writeLong(declined);
        for (int i = 0; i < SUMS; i++) {
            out.writeDouble(sums[i]);
        }
        out.writeInt(known + 2);
        out.writeInt(used);
        for (int i = 0; i < keys.length; i++) {
            if (keys[i] != FREE) {
                out.writeLong(keys[i]);
                out.writeLong(counts[i]);
            }
        }
    }

    /** Adds the sums that `write` wrote. */
    void read(DataInputStream in) throws IOException {
        lossEvents += in.readLong();
        declined += in.readLong();
        for (int i = 0; i < SUMS; i++) {
            sums[i] += in.readDouble();
        }
        in.readInt();
        for (int left = in.readInt(); left > 0; left--) {
            long key = in.readLong();
            count(key, in.readLong());
        }
    }
}
