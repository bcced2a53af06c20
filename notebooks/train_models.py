# Databricks notebook source
# MAGIC %md
# MAGIC # Train the models
# MAGIC
# MAGIC Will this ad be clicked? Two linear models learn it from Criteo's display ads: a logistic regression and a
# MAGIC linear SVM, as in the articles "Preprocessing Criteo Dataset for Prediction of Click Through Rate on Ads" and
# MAGIC "ML Model Prediction on Streaming Data Using Kafka" (A. Abdelhalim, 2020). This notebook looks at the rows,
# MAGIC trains, registers both models in MLflow, writes the test set for the stream, and says how good the models are
# MAGIC and how good they could be.
# MAGIC
# MAGIC Criteo's data are not for passing on. With a file of yours, set `train.data` to `criteo` and `train.path` to the
# MAGIC file. Without, the rows are synthetic: same columns, same gaps, same rare values, and a best possible score that
# MAGIC is known.

# COMMAND ----------

# DBTITLE 1,Parameters
from matplotlib.figure import Figure
from pyspark.sql import functions as F
from sklearn.calibration import CalibrationDisplay
from sklearn.metrics import RocCurveDisplay

from streamscore import models, train_models
from streamscore.data import criteo
from streamscore.errors import ConfigError
from streamscore.launch import notebook
from streamscore.quality.figures import BASELINE_SHORT
from streamscore.scoring.apply import apply_models
from streamscore.spark import sources

config = notebook.configuration(globals().get("dbutils"))
display = globals().get("display", print)
train_models.check(config)
if config.message.columns and not config.train.raw_models:  # before the training: they need a test set to be judged on
    raise ConfigError(
        "message.fields is set, so the models that are served read raw columns: set train.raw_models=true too, which "
        "makes such models and a test set for them, or leave message.fields out"
    )
spark = train_models.JOB.create_session(config)

# COMMAND ----------

# MAGIC %md
# MAGIC ## The rows
# MAGIC
# MAGIC A label, 13 whole numbers and 26 categories, whose meaning Criteo keeps to itself. Three things make them hard:
# MAGIC
# MAGIC - **Missing values.** Some columns are mostly empty, and rows without a value are clicked more or less often
# MAGIC   than others (`clicks_if_missing`): the gap is a signal, so no mean may be put in its place.
# MAGIC - **Rare categories.** Some columns have as many values as there are people. What was seen in fewer rows than
# MAGIC   `train.min_category_count` teaches nothing (`rare`: the share of rows with such a value).
# MAGIC - **Long tails.** Numbers go from 0 to millions; a straight line through them sees only the largest ones.

# COMMAND ----------

# DBTITLE 1,Missing and rare values, column by column
path = train_models.rows(config)
rows = train_models.read(spark, config, path)
display(criteo.overview(rows, config.train.min_category_count))

# COMMAND ----------

# MAGIC %md
# MAGIC ## From rows to vectors
# MAGIC
# MAGIC 1. A number becomes a bin, `floor(log(x)²)` as the winners of Criteo's contest had it; a missing number has a
# MAGIC    bin of its own.
# MAGIC 2. A category becomes the number of its value; all rare and unseen values share one, and "missing" is a value
# MAGIC    like others.
# MAGIC 3. Both are hashed into one sparse vector of `train.hash_size` slots, which are counts, nearly always 0 or 1. So
# MAGIC    nothing needs scaling, and a value that training never saw cannot break the stream.
# MAGIC
# MAGIC All three are Spark's own stages: the fitted pipeline loads anywhere, without this package. The article's
# MAGIC vectors had 110 slots; judging by the one that it prints, many categories went in as plain index numbers, which
# MAGIC a linear model takes for amounts.
# MAGIC
# MAGIC The last `train.test_rows` rows are the test set. Rows are in the order of time, so this is how a stream meets a
# MAGIC model; rows drawn at random would tell it about the future. The article kept as many rows without a click as
# MAGIC with one; the natural mix (`train.balance=false`) is kept here, since that is what the stream brings.

# COMMAND ----------

# DBTITLE 1,Train, register, write the test set
figures = train_models.run(spark, config)
test_set = sources.data_set(spark, figures["test_set"])
display(test_set.limit(5))

# COMMAND ----------

# MAGIC %md
# MAGIC ## How good they are
# MAGIC
# MAGIC Read the accuracy beside the baseline, which is the accuracy of always predicting the more frequent label. On
# MAGIC Criteo's natural mix that is about 74 %, and the best model there can be is only some points above it. So the
# MAGIC AUC says more: how often a clicked row gets a higher score than one that was not. With synthetic rows in
# MAGIC their natural mix the best possible values are known, and `auc_of_best` is the share of them that a model
# MAGIC reaches. A linear SVM has no probability of its own: a calibration behind it turns its margin into one and
# MAGIC leaves its predictions as they are. With `train.svm.calibrate=false` it is the article's plain SVM, without
# MAGIC log loss.

# COMMAND ----------

# DBTITLE 1,Scores on the test set
names = ("auc", "auc_of_best", "log_loss", "accuracy")
scores = [(name, *(figures[name].get(score) for score in names), figures["majority_rate"]) for name in ("lr", "svm")]
best = figures.get("best_possible", {})
if best:
    scores.append(("best possible", best["auc"], 1.0, best["log_loss"], None, figures["majority_rate"]))
columns = [*names, BASELINE_SHORT]
display(spark.createDataFrame(scores, ", ".join(["model string", *(f"{column} double" for column in columns)])))

# COMMAND ----------

# MAGIC %md
# MAGIC ## ROC and calibration
# MAGIC
# MAGIC The models are loaded from the registry as the stream will load them. On the left: what share of the clicks a
# MAGIC threshold finds, against the share of the others that it takes for clicks; the dashed line is guessing. On the
# MAGIC right: of the rows that were given a probability of p, a share of p should be clicked. Only models with a
# MAGIC probability are shown there. Of a large test set about 200,000 rows are drawn at random.

# COMMAND ----------

# DBTITLE 1,ROC curve and calibration
ROWS_SHOWN = 200_000
served = models.load(spark, config)
raw = [field.name for field in config.message.columns]
if raw:  # the same rows, for models of raw columns
    test_set = sources.data_set(spark, figures["raw_test_set"]).select("label", F.struct(*raw).alias("features"))
# They come to the driver: of millions of rows no more than a figure shows.
shown = test_set.sample(min(1.0, ROWS_SHOWN / figures["test_rows"]), seed=1)
scored = apply_models(shown, served).select("label", *(model.score for model in served)).toPandas()
figure = Figure(figsize=(11, 5))
left, right = figure.subplots(1, 2)
for model in served:
    RocCurveDisplay.from_predictions(scored["label"], scored[model.score], name=model.name, ax=left)
    if model.score_kind == "probability":
        CalibrationDisplay.from_predictions(
            scored["label"], scored[model.score], n_bins=10, name=model.name, ref_line=False, ax=right
        )
left.set(title="ROC", xlabel="false positives", ylabel="true positives")
right.set(title="Calibration", xlabel="predicted probability", ylabel="share of clicks")
for axes in (left, right):
    axes.plot([0, 1], [0, 1], linestyle="dashed", color="grey")
    axes.legend()
display(figure)

# COMMAND ----------

# MAGIC %md
# MAGIC Next: send the test set to Kafka with the job `seed`, and watch the models judge it in the notebook
# MAGIC `score_stream`.
