package streamscore;

import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.IOException;

/** The sums over the events of one window: of each model, and of the champion with each other model. */
final class WindowSums {
    private final ModelSums[] models;
    /** Sums of the champion and the model of that position; null at the champion's own. */
    private final PairSums[] pairs;
    private final int champion;

    /**
     * @param blank sums of each model, which are copied without their events
     * @param champion position of the model with which the others are compared
     */
    WindowSums(ModelSums[] blank, int champion) {
        this.champion = champion;
        this.models = new ModelSums[blank.length];
        this.pairs = new PairSums[blank.length];
        for (int i = 0; i < blank.length; i++) {
            models[i] = blank[i].blank();
            pairs[i] = champion == i ? null : new PairSums();
        }
    }

    /** Returns whether the score to add is that of the labelled class. */
    boolean isOfSeveral(int model) {
        return models[model].isOfSeveral();
    }

    /**
     * Adds an event.
     *
     * @param label the label; NaN means none
     * @param predictions prediction of each model
     * @param scores score of each model; of more than two classes the labelled one's
     */
    void add(double label, double[] predictions, double[] scores) {
        for (int i = 0; i < models.length; i++) {
            models[i].add(label, predictions[i], scores[i]);
        }
        for (int i = 0; i < pairs.length; i++) {
            if (pairs[i] != null) {
                pairs[i].add(label, predictions[champion], predictions[i], models[champion], models[i]);
            }
        }
    }

    void merge(WindowSums other) {
        for (int i = 0; i < models.length; i++) {
            models[i].merge(other.models[i]);
            if (pairs[i] != null) {
                pairs[i].merge(other.pairs[i]);
            }
        }
    }

    /** Writes the sums of each model, then those of each pair; each after the window and the position (see below). */
    void write(long window, DataOutputStream out) throws IOException {
        for (int i = 0; i < models.length; i++) {
            out.writeLong(window);
            out.writeInt(i);
            models[i].write(out);
        }
        for (int i = 0; i < pairs.length; i++) {
            if (pairs[i] != null) {
                out.writeLong(window);
                out.writeInt(models.length + i);
                pairs[i].write(out);
            }
        }
    }

    /**
     * Adds the sums that `write` wrote after a window and a position.
     *
     * @param position of a model, or, from the number of models on, of the challenger of a pair
     */
    void read(int position, DataInputStream in) throws IOException {
        if (position < models.length) {
            models[position].read(in);
        } else {
            pairs[position - models.length].read(in);
        }
    }
}
