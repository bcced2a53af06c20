package streamscore;

import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.IOException;

/**
 * The paired statistic of a champion and a challenger over some events, as defined by quality/pairs.py, whose function
 * `of_rows` is the reference.
 */
final class PairSums {
    private static final int SUMS = 4;
    /** Labels from this number on share one code with fractions. */
    private static final int CLASSES = 100;

    private final long[] labels = new long[CLASSES + 1];
    private long events;
    private long bothRight;
    private long onlyChallenger;
    private long onlyChampion;
    private long probabilityEvents;
    private final double[] sums = new double[SUMS];

    /**
     * Adds an event that both models have just added to their sums.
     *
     * @param label the label; NaN means none
     * @param champion prediction of the champion; NaN means none, as below
     * @param challenger prediction of the challenger
     * @param ofChampion the champion's sums, with the log loss and the squared error of the event
     * @param ofChallenger those of the challenger
     */
    void add(double label, double champion, double challenger, ModelSums ofChampion, ModelSums ofChallenger) {
        if (label != label || champion != champion || challenger != challenger) {
            return;
        }
        events++;
        labels[ModelSums.code(label, CLASSES)]++;
        boolean championIsRight = champion == label;
        boolean challengerIsRight = challenger == label;
        if (challengerIsRight && championIsRight) {
            bothRight++;
        } else if (challengerIsRight) {
            onlyChallenger++;
        } else if (championIsRight) {
            onlyChampion++;
        }
        double loss = ofChampion.lastLoss() - ofChallenger.lastLoss();
        if (loss == loss) {
            double brier = ofChampion.lastSquaredError() - ofChallenger.lastSquaredError();
            probabilityEvents++;
            sums[0] += loss;
            sums[1] += loss * loss;
            sums[2] += brier;
            sums[3] += brier * brier;
        }
    }

    void merge(PairSums other) {
        for (int i = 0; i < labels.length; i++) {
            labels[i] += other.labels[i];
        }
        addCounts(other.events, other.bothRight, other.onlyChallenger, other.onlyChampion, other.probabilityEvents);
        for (int i = 0; i < SUMS; i++) {
            sums[i] += other.sums[i];
        }
    }

    /**
     * Writes: events, those that both, only the challenger or only the champion had right, events of which both log losses
     * are known (longs), the sums in the order of PairStatistic (doubles), the number of labels (int), and each label's
     * code (int) and events (long).
     */
    void write(DataOutputStream out) throws IOException {
        out.writeLong(events);
        out.writeLong(bothRight);
        out.writeLong(onlyChallenger);
        out.writeLong(onlyChampion);
        out.writeLong(probabilityEvents);
        int used = 0;
        for (int i = 0; i < SUMS; i++) {
            out.writeDouble(sums[i]);
        }
        for (int i = 0; i < labels.length; i++) {
            used += labels[i] > 0 ? 1 : 0;
        }
        out.writeInt(used);
        for (int i = 0; i < labels.length; i++) {
            if (labels[i] > 0) {
                out.writeInt(i);
                out.writeLong(labels[i]);
            }
        }
    }

    /** Adds the sums that `write` wrote. */
    void read(DataInputStream in) throws IOException {
        long read = in.readLong();
        long both = in.readLong();
        long challenger = in.readLong();
        long champion = in.readLong();
        addCounts(read, both, challenger, champion, in.readLong());
        for (int i = 0; i < SUMS; i++) {
            sums[i] += in.readDouble();
        }
        for (int left = in.readInt(); left > 0; left--) {
            int code = in.readInt();
            labels[code] += in.readLong();
        }
    }

    private void addCounts(long more, long both, long challenger, long champion, long probability) {
        events += more;
        bothRight += both;
        onlyChallenger += challenger;
        onlyChampion += champion;
        probabilityEvents += probability;
    }
}
