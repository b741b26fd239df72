"""The words of reports on multi-label and regression models, in English and Chinese."""

from __future__ import annotations

TASKS: dict[str, tuple[str, str]] = {
    "task_labels": ("{n} labels, any number of them per item", "{n} 个标签，每个样本可有任意多个"),
    "task_regression": ("regression of {names}", "回归 {names}"),
    "task_fitted_view": (
        "Head fitted (ridge regression) on 1 view per training item; all other layers unchanged. {seconds} s.",
        "头由岭回归拟合，每个训练样本用 1 个视图；其余各层不变。{seconds} s。",
    ),
    "task_fitted_views": (
        "Head fitted (ridge regression) on {views} views per training item; all other layers unchanged. {seconds} s.",
        "头由岭回归拟合，每个训练样本用 {views} 个视图；其余各层不变。{seconds} s。",
    ),
    "between_names": (", ", "、"),
    "task_score_val": ("validation {metric}", "验证集 {metric}"),
    "task_score_test": ("test {metric}", "测试集 {metric}"),
    "metric_map": ("mean average precision", "平均精确率均值（mAP）"),
    "metric_mae": ("mean absolute error", "平均绝对误差"),
    "metric_r2": ("mean R²", "平均 R²"),
    "task_interval": ("95% interval {low} to {high}, n = {n}", "95% 置信区间 {low} 到 {high}，n = {n}"),
    "task_label_scores": (
        "macro F1 {macro}, micro F1 {micro}; all labels right: {subset}%; Hamming loss {hamming}",
        "宏平均 F1 {macro}，微平均 F1 {micro}；标签全对：{subset}%；汉明损失 {hamming}",
    ),
    "task_thresholds": (
        "An item has a label from the label's threshold on, which was chosen on the validation items.",
        "概率达到标签的阈值即判为有该标签；阈值是在验证集上选出的。",
    ),
    "task_thresholds_fitted": (
        "An item has a label from the label's threshold on. Thresholds were chosen on these items (highest F1), so F1, "
        "precision and recall are optimistic here; average precision and AUROC do not depend on them.",
        "概率达到标签的阈值即判为有该标签。阈值是在这些样本上选出的（F1 最高），因此这里的 F1、精确率和召回率偏乐观；"
        "平均精确率（AP）和 AUROC 与阈值无关。",
    ),
    "task_label": ("label", "标签"),
    "task_threshold": ("threshold", "阈值"),
    "task_label_table": ("scores of each label", "各标签的得分"),
    "task_baseline": (
        "The last two columns are the errors of predicting the mean of the training items for every item.",
        "最后两列是对每个样本都预测训练集均值时的误差。",
    ),
    "task_number": ("number", "数值"),
    "task_mean_mae": ("MAE of the mean", "预测均值的 MAE"),
    "task_mean_rmse": ("RMSE of the mean", "预测均值的 RMSE"),
    "task_number_table": ("scores of each number", "各数值的得分"),
    "task_plot_title": ("{name}: predicted and true values", "{name}：预测值与真实值"),
    "task_plot_true": ("true", "真实值"),
    "task_plot_predicted": ("predicted", "预测值"),
    "task_plot_described": (
        "{name}: predicted against true values of {n} items; correlation {r}",
        "{name}：{n} 个样本的预测值与真实值；相关系数 {r}",
    ),
    "task_plot_caption": (
        "One point per item (at most 2,000); on the line, the prediction of {name} is exact.",
        "每点一个样本（最多 2,000 个）；落在线上即 {name} 的预测完全准确。",
    ),
    "val_map": ("validation mAP, %", "验证 mAP，%"),
    "val_mae": ("validation MAE", "验证 MAE"),
    "val_r2": ("validation R²", "验证 R²"),
}
