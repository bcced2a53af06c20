# Databricks notebook source
# MAGIC %md
# MAGIC # Score the stream
# MAGIC
# MAGIC Every event of the Kafka topic is scored by all models in one pass and compared with the label that came with
# MAGIC it; the outcomes go to Kafka and to Elasticsearch. This notebook does for a while what the job `score` does
# MAGIC all day, with the same code and the same guarantees, and shows the counts while they grow.
# MAGIC
# MAGIC It continues where the job stopped, from the same checkpoint: **pause the job first**, two streams cannot share
# MAGIC one. "Interrupt" ends it in an orderly way, after the batch in flight.

# COMMAND ----------

# DBTITLE 1,Parameters
from matplotlib.figure import Figure

from streamscore import label_stream, score_stream
from streamscore.launch import notebook
from streamscore.quality import figures
from streamscore.quality.evaluation import FIGURES
from streamscore.stream.stop import StopRequest

dbutils = globals().get("dbutils")
display = globals().get("display", print)
config = notebook.configuration(dbutils)
seconds = float(notebook.parameter(dbutils, "seconds", "0", "Seconds to run; 0: what the topic holds now"))
with_labels = notebook.parameter(dbutils, "labels", "no", "Join late labels afterwards: yes or no") == "yes"
score_stream.check(config)
spark = score_stream.JOB.create_session(config)

# COMMAND ----------

# MAGIC %md
# MAGIC ## Live counts
# MAGIC
# MAGIC Lines per batch: events so far and per second, what could not be decoded, how far behind the topic the stream
# MAGIC is, and the majority-class baseline: the accuracy of always predicting the most frequent label. Then of each
# MAGIC model the accuracy with its interval of 95 %, ROC AUC, RIG (0: no better than the bare rate of clicks) and log
# MAGIC loss.

# COMMAND ----------

# DBTITLE 1,Run
history = []


def show(totals):
    """Print the totals after each batch and keep them."""
    if not history or totals.batches > history[-1]["batches"]:
        history.append(totals.summary())
        print(*totals.lines(), sep="\n")


stop = StopRequest(seconds or None)
stream = config.stream.model_copy(update={"available_now": seconds == 0})
summary = score_stream.run(spark, config.model_copy(update={"stream": stream}), stop, show)

# COMMAND ----------

# MAGIC %md
# MAGIC ## What came out

# COMMAND ----------

# MAGIC %md
# MAGIC Low and high are the ends of the interval of 95 %; without them the figure has none. The value of the single
# MAGIC events lies within ± bound of a figure from bins, such as ROC AUC. An accuracy is better or worse than the
# MAGIC baseline only where its whole interval lies on one side of it.

# COMMAND ----------

# DBTITLE 1,Figures per model
parts = ("value", "low", "high", "bound")
outcome = [
    (name, model["version"], model["scored"], FIGURES[key].name, *((figure or {}).get(part) for part in parts))
    for name, model in summary["models"].items()
    for key, figure in model["figures"].items()
]
columns = "model string, version string, scored long, figure string"
display(spark.createDataFrame(outcome, f"{columns}, {', '.join(f'{part} double' for part in parts)}"))

# COMMAND ----------

# DBTITLE 1,Accuracy while the stream ran
figure = Figure(figsize=(11, 4))
axes = figure.subplots()
events = [point["events"] for point in history]
for name in summary["models"]:
    axes.plot(events, [point["models"][name]["accuracy"] for point in history], label=name)
axes.plot(
    events, [point["majority_rate"] for point in history], label=figures.BASELINE, linestyle="dashed", color="grey"
)
axes.set(
    title=f"{figures.ACCURACY.capitalize()} so far, of the version in use",
    xlabel="events",
    ylabel="share of labelled events",
)
axes.legend()
display(figure)

# COMMAND ----------

# MAGIC %md
# MAGIC ## Labels that came later
# MAGIC
# MAGIC If asked to, the labels that their own topic holds now are joined with the outcomes, as the job `label` does,
# MAGIC and all figures are restated: pause that job first. Each label that was received has one fate; a pending one
# MAGIC waits for its event.

# COMMAND ----------

# DBTITLE 1,Late labels
if with_labels:
    label_stream.check(config)
    at_once = config.stream.model_copy(update={"available_now": True})
    fates = label_stream.run(spark, config.model_copy(update={"stream": at_once}))
    display(spark.createDataFrame(list(fates.items()), "labels string, count long"))
