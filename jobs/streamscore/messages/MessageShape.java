package streamscore;

import java.io.Serializable;
import java.util.HashMap;
import java.util.Map;

/** The configured shape of messages, without the form of their features. */
public final class MessageShape implements Serializable {
    private static final long serialVersionUID = 1L;

    final String labelField;
    /** The path of fields from the top of a message to the object with label and features; empty: the top itself. */
    final String[] root;
    /** Whether a numeric text counts as a number. */
    final boolean textNumbers;
    /** The class of each label that is a text, true or false. */
    final HashMap labelValues;
    final int maxBytes;

    /**
     * @param labelField name of the label's field
     * @param root the path of fields to the object to read, joined by dots; null: the message itself is the object
     * @param textNumbers whether a numeric text counts as a number
     * @param labelValues the class, a double, of each label that is a text, true or false
     * @param maxBytes longest message to parse
     */
    public MessageShape(String labelField, String root, boolean textNumbers, Map labelValues, int maxBytes) {
        this.labelField = labelField;
        this.root = root == null ? new String[0] : root.split("\\.");
        this.textNumbers = textNumbers;
        this.labelValues = new HashMap(labelValues);
        this.maxBytes = maxBytes;
    }

    /** Returns the configured path of the object to read. */
    String path() {
        StringBuilder path = new StringBuilder();
        for (int i = 0; i < root.length; i++) {
            path.append(i == 0 ? "" : ".").append(root[i]);
        }
        return path.toString();
    }
}
