"""The words of a run's report, in English and Chinese."""

from __future__ import annotations

REPORT: dict[str, tuple[str, str]] = {
    "trained": ("{model}, trained", "{model}，从头训练"),
    "fine_tuned": ("{model}, fine-tuned", "{model}，微调"),
    "n_classes": ("{n} classes", "{n} 个类别"),
    "split_train": ("train {n}", "训练集 {n}"),
    "split_val": ("val {n}", "验证集 {n}"),
    "split_test": ("test {n}", "测试集 {n}"),
    "n_skipped": ("skipped {n}", "跳过 {n}"),
    "between": (", ", "，"),
    "after": ("; ", "；"),
    "full_stop": (".", "。"),
    "fitted_view": (
        "Head fitted (logistic regression) in {steps} iterations on {views} view per training item; all other layers "
        "unchanged. {seconds} s.",
        "分类头由逻辑回归拟合，{steps} 次迭代，每个训练样本 {views} 个视图；其他层不变。用时 {seconds} s。",
    ),
    "fitted_views": (
        "Head fitted (logistic regression) in {steps} iterations on {views} views per training item; all other layers "
        "unchanged. {seconds} s.",
        "分类头由逻辑回归拟合，{steps} 次迭代，每个训练样本 {views} 个视图；其他层不变。用时 {seconds} s。",
    ),
    "length_of_run": ("{epochs} epochs, {steps} steps, {seconds} s", "{epochs} 轮，{steps} 步，{seconds} s"),
    "best_epoch": ("; weights of epoch {n}", "；使用第 {n} 轮的权重"),
    "lengthened": (" Lengthened: ", " 曾延长训练："),
    "until_epochs": (
        "up to step {step} on a schedule of {epochs} epochs; ",
        "到第 {step} 步为止按 {epochs} 轮的计划；",
    ),
    "until_seconds": ("up to step {step} on a schedule of {seconds} s; ", "到第 {step} 步为止按 {seconds} s 的计划；"),
    "not_at_once": ("so this is not a run of the whole length at once.", "因此这不是一次完成全部长度的运行。"),
    "score_val": ("validation accuracy", "验证集准确率"),
    "score_test": ("test accuracy", "测试集准确率"),
    "score_val_video": ("validation video accuracy", "验证集视频准确率"),
    "score_test_video": ("test video accuracy", "测试集视频准确率"),
    "interval": ("95% interval {low}% to {high}%, n = {n}", "95% 置信区间 {low}% 到 {high}%，n = {n}"),
    "balanced": ("balanced accuracy {accuracy}%, macro F1 {f1}", "平衡准确率 {accuracy}%，宏平均 F1 {f1}"),
    "unread_one": (
        "{n} more can no longer be read and is not in this score",
        "另有 {n} 个已无法读取，不计入这个得分",
    ),
    "unread_many": (
        "{n} more can no longer be read and are not in this score",
        "另有 {n} 个已无法读取，不计入这个得分",
    ),
    "single_clips": ("single clips: {accuracy}% of {n}", "单个片段：{n} 个中 {accuracy}%"),
    "no_score": ("No score: no items were held out.", "没有得分：没有留作评估的样本。"),
    "section_training": ("Training", "训练"),
    "heading_val": ("Validation", "验证集"),
    "heading_test": ("Test", "测试集"),
    "optimistic_l2": (
        "The L2 strength was chosen on these items, so this score is slightly optimistic; a test score is not.",
        "L2 强度是在这些样本上选出的，因此这个得分略偏乐观；测试集得分不会。",
    ),
    "optimistic_epoch": (
        "The epoch was chosen on these items, so this score is slightly optimistic; a test score is not.",
        "轮次是在这些样本上选出的，因此这个得分略偏乐观；测试集得分不会。",
    ),
    "class": ("class", "类别"),
    "precision": ("precision", "精确率"),
    "recall": ("recall", "召回率"),
    "interval_heading": ("95% interval", "95% 置信区间"),
    "range": ("{low}% to {high}%", "{low}% 到 {high}%"),
    "changed_heading": ("Changed during the run", "运行期间的变化"),
    "changed_items": (
        "These items are not what they were when the run began.",
        "这些样本与运行开始时不同。",
    ),
    "item": ("item", "样本"),
    "split": ("split", "划分"),
    "change": ("change", "变化"),
    "all_in_result": ("All {n} are in result.json.", "全部 {n} 个列在 result.json。"),
    "skipped_items": ("Skipped items", "跳过的样本"),
    "reason": ("reason", "原因"),
    "all_in_split": ("All {n} are listed in split.csv.", "全部 {n} 个列在 split.csv。"),
    "settings": ("Settings", "设置"),
    "machine": ("Machine", "机器"),
    # its conclusion
    "noun_image": ("images", "张图像"),
    "noun_signal": ("series", "条序列"),
    "noun_text": ("texts", "条文本"),
    "noun_video": ("videos", "个视频"),
    "conclude_finetune": (
        "{model}, fine-tuned on {data} ({train} {noun} of {classes} classes), predicts {accuracy}% of the {n} {split} "
        "{noun} correctly (95% interval {low}% to {high}%).",
        "{model} 在 {data} 上微调（{classes} 个类别，{train} {noun}），{split}的 {n} {noun}中 {accuracy}% 预测正确"
        "（95% 置信区间 {low}% 到 {high}%）。",
    ),
    "conclude_train": (
        "{model}, trained from scratch on {data} ({train} {noun} of {classes} classes), predicts {accuracy}% of the "
        "{n} {split} {noun} correctly (95% interval {low}% to {high}%).",
        "{model} 在 {data} 上从头训练（{classes} 个类别，{train} {noun}），{split}的 {n} {noun}中 {accuracy}% 预测正确"
        "（95% 置信区间 {low}% 到 {high}%）。",
    ),
    "conclude_task": (
        "{model}, trained on {data} ({train} {noun}), has a {split} {metric} of {value} (95% interval {low} to {high}, "
        "n = {n}).",
        "{model} 在 {data} 上训练（{train} {noun}），"
        "{split} {metric} 为 {value}（95% 置信区间 {low} 到 {high}，n = {n}）。",
    ),
    "split_name_train": ("training", "训练集"),
    "split_name_val": ("validation", "验证集"),
    "split_name_test": ("test", "测试集"),
    "initial_weights": ("Training started from the weights {weights}.", "训练从权重 {weights} 开始。"),
    "baseline": (
        "Always predicting “{name}”, the most frequent class, would score {share}%.",
        "总是预测最常见的类别“{name}”，得分是 {share}%。",
    ),
    "confused_most": (
        "Its most frequent mistake: {n} of {of} items of “{true}” are predicted as “{predicted}”.",
        "最常见的错误：“{true}”的 {of} 个样本中有 {n} 个预测为“{predicted}”。",
    ),
    "no_mistake": ("It makes no mistake on these items.", "在这些样本上没有错误。"),
    "not_conclusive": (
        "The interval reaches down to this share: these items do not show that it learned anything.",
        "置信区间覆盖了这个比例：这些样本不能说明模型学到了东西。",
    ),
    "contents": ("Contents", "目录"),
    # sections
    "section_scores": ("How good it is", "效果如何"),
    "section_gallery": ("Where it fails", "错在哪里"),
    "section_confidence": ("How sure one may be", "有多可信"),
    "section_data": ("The data", "数据"),
    "section_cost": ("What it costs", "开销"),
    "section_usage": ("How to use the model", "如何使用模型"),
    "section_repeat": ("How to repeat the run", "如何重现这次运行"),
    # how good
    "confusion": ("Confusion matrix", "混淆矩阵"),
    "confusion_caption": (
        "Rows are true classes, columns predictions; right ones are outlined. A darker cell holds a larger share of "
        "its row.",
        "行是真实类别，列是预测；预测正确的单元格带边框。颜色越深，占该行的比例越大。",
    ),
    "confused_pairs": ("Most confused pairs", "最易混淆的类别"),
    "true_class": ("true class", "真实类别"),
    "predicted_class": ("predicted as", "预测为"),
    "count_of": ("items", "样本数"),
    "share_of_class": ("share of the class", "占该类的比例"),
    "n_of": ("{n} of {of}", "{of} 中的 {n}"),
    "per_class": ("Scores of each class", "各类别的得分"),
    "measures": ("Measures", "指标"),
    "measure": ("measure", "指标"),
    "value": ("value", "数值"),
    "measure_accuracy": ("accuracy", "准确率"),
    "measure_balanced_accuracy": ("balanced accuracy (mean recall)", "平衡准确率（平均召回率）"),
    "measure_macro_f1": ("macro F1", "宏平均 F1"),
    "measure_weighted_f1": ("weighted F1", "加权 F1"),
    "measure_mcc": ("Matthews correlation", "马修斯相关系数"),
    "measure_kappa": ("Cohen's kappa", "科恩 kappa"),
    "measure_auroc": ("AUROC, mean of classes", "AUROC，各类平均"),
    "measure_average_precision": ("average precision, mean of classes", "平均精确率，各类平均"),
    "measure_nll": ("negative log-likelihood", "负对数似然"),
    "measure_brier": ("Brier score", "Brier 分数"),
    "measure_ece": ("expected calibration error", "期望校准误差"),
    "measure_aurc": ("area under the risk-coverage curve", "风险-覆盖率曲线下面积"),
    "measure_top": ("top-{k} accuracy", "前 {k} 准确率"),
    # where it fails
    "gallery_about": (
        "The {mistakes} worst of {wrong} mistakes of the {split} split, least probable true class first, and "
        "the {uncertain} most uncertain other predictions.",
        "{split}的 {wrong} 个错误中最严重的 {mistakes} 个（真实类别概率最低的在前），"
        "以及其余预测中最不确定的 {uncertain} 个。",
    ),
    "gallery_all": (
        "All {mistakes} mistakes of the {split} split, least probable true class first, and the {uncertain} most "
        "uncertain other predictions.",
        "{split}的全部 {mistakes} 个错误（真实类别概率最低的在前），以及其余预测中最不确定的 {uncertain} 个。",
    ),
    "gallery_none": (
        "No mistakes in the {split} split; these are its {uncertain} most uncertain predictions.",
        "{split}没有错误；下面是其中最不确定的 {uncertain} 个预测。",
    ),
    "gallery_images": (
        "Images are what the network reads: resized and cropped.",
        "图像是网络读到的内容：已缩放并裁剪。",
    ),
    "show": ("show", "显示"),
    "show_all": ("all", "全部"),
    "show_mistakes": ("worst mistakes", "最严重的错误"),
    "show_uncertain": ("most uncertain", "最不确定的"),
    "show_class": ("class", "类别"),
    "show_any_class": ("any class", "任意类别"),
    "show_attribution": ("show what decided", "显示决定预测的部分"),
    "attribution_about": (
        "Marked by the class activation map: what spoke for the predicted class (orange) and against it (violet); the "
        "strongest parts are outlined, underlined or tallest.",
        "按类激活图标出：橙色支持预测的类别，紫色反对；最强的部分带轮廓、下划线，或条形最高。",
    ),
    "n_shown": ("{n} shown", "显示 {n} 个"),
    "card_mistake": ("mistake", "错误"),
    "card_uncertain_right": ("uncertain, right", "不确定，正确"),
    "card_uncertain_wrong": ("uncertain, wrong", "不确定，错误"),
    "card_true": ("true", "真实"),
    "card_predicted": ("predicted", "预测"),
    "card_runner_up": ("runner-up", "次选"),
    "card_alt": (
        "{id}: true class {true}, predicted {predicted} with {share}%",
        "{id}：真实类别 {true}，预测为 {predicted}，概率 {share}%",
    ),
    "card_alt_attribution": ("{alt}, with what decided marked", "{alt}，已标出决定预测的部分"),
    # how sure
    "perfect": ("perfect calibration", "完美校准"),
    "reliability": ("reliability diagram", "可靠性图"),
    "reliability_as_is": ("this model", "本模型"),
    "before_temperature": ("before temperature scaling", "温度缩放之前"),
    "after_temperature": ("after temperature scaling", "温度缩放之后"),
    "confidence_axis": ("probability of the prediction, %", "预测的概率，%"),
    "accuracy_axis": ("share that is right, %", "其中正确的比例，%"),
    "risk_coverage": ("risk and coverage", "风险与覆盖率"),
    "coverage_axis": ("share of items answered, most certain first, %", "作答样本的比例（最确定的在前），%"),
    "risk_axis": ("share of answers that is wrong, %", "答案中错误的比例，%"),
    "risk_line": ("wrong answers", "错误答案"),
    "calibration_as_is": (
        "Probabilities are off by {ece} percentage points on average (expected calibration error).",
        "概率平均偏离 {ece} 个百分点（期望校准误差）。",
    ),
    "calibration_fitted": (
        "A temperature of {temperature}, fitted on {n} validation items and stored in the model, changes the expected "
        "calibration error from {before} to {after} percentage points.",
        "在 {n} 个验证样本上拟合并存入模型的温度为 {temperature}，"
        "期望校准误差从 {before} 个百分点变为 {after} 个百分点。",
    ),
    "abstention_here": (
        "Answering only from a probability of {threshold} on, chosen on validation items for {wanted}% precision, it "
        "answers {answered}% of the items and is right on {precision}% of these (95% interval {low}% to {high}%).",
        "只在概率不低于 {threshold} 时作答（在验证样本上按 {wanted}% 的精确率选定），"
        "作答 {answered}% 的样本，其中 {precision}% 正确（95% 置信区间 {low}% 到 {high}%）。",
    ),
    "abstention_none": (
        "No threshold reaches {wanted}% precision on the validation items with the needed certainty.",
        "在验证样本上，没有一个阈值能足够可靠地达到 {wanted}% 的精确率。",
    ),
    "conformal_here": (
        "Prediction sets made for {wanted}% coverage contain the true class of {coverage}% of the items (95% interval "
        "{low}% to {high}%), with {size} classes on average; {single}% of the sets have one class.",
        "按 {wanted}% 覆盖率构造的预测集合包含 {coverage}% 样本的真实类别（95% 置信区间 {low}% 到 {high}%），"
        "平均 {size} 个类别；{single}% 的集合只有一个类别。",
    ),
    "unknowns_test": (
        "The model can say that an input is unlike the training data; at a threshold set on validation items for "
        "{promised}% false alarms it says so of {rate}% of the {n} test items (95% interval {low}% to {high}%).",
        "模型可以指出输入与训练数据不相似；阈值在验证样本上按 {promised}% 的误报率设定，"
        "{n} 个测试样本中有 {rate}% 被误报（95% 置信区间 {low}% 到 {high}%）。",
    ),
    "unknowns_val": (
        "The model can say that an input is unlike the training data; the threshold is set for {promised}% false "
        "alarms, and {rate}% of {n} validation items that did not set it are false alarms (95% interval "
        "{low}% to {high}%).",
        "模型可以指出输入与训练数据不相似；阈值按 {promised}% 的误报率设定，"
        "在未参与设定的 {n} 个验证样本中误报 {rate}%（95% 置信区间 {low}% 到 {high}%）。",
    ),
    # data
    "split_sizes": ("Splits", "划分"),
    "items": ("items", "样本"),
    "check_heading": ("What the check found", "检查的发现"),
    "check_about": (
        "Findings of the check.csv that the run was started with (--exclude); items that it suggests to drop were left "
        "out.",
        "运行开始时所用 check.csv（--exclude）中的发现；其中建议去掉的样本没有使用。",
    ),
    "finding": ("finding", "发现"),
    "severity": ("severity", "严重程度"),
    # cost
    "cost_parameters": ("parameters", "参数"),
    "cost_flops": ("multiply-adds for one input of {shape}", "一个 {shape} 输入的乘加次数"),
    "cost_file": ("size of model.safetensors", "model.safetensors 的大小"),
    "cost_training": ("training, items per second", "训练速度，样本/秒"),
    "cost_prediction": ("prediction, items per second, reading included", "预测速度（含读取），样本/秒"),
    "cost_duration": ("duration of the run", "运行时间"),
    "mebibytes": ("{n} MiB", "{n} MiB"),
    "cost_machine": (
        "Measured on the machine below, with whatever else it was doing.",
        "在下面的机器上测得，当时可能还有其他负载。",
    ),
    # use and repetition
    "use_command": ("On the command line:", "命令行："),
    "use_python": ("In Python:", "Python："),
    "use_file": (
        "model.safetensors is all that is needed: weights, class names and preprocessing.",
        "只需要 model.safetensors：其中有权重、类别名和预处理。",
    ),
    "use_input": ("YOUR_{noun}", "YOUR_{noun}"),
    "repeat_about": (
        "With the same data, machine and library versions the run gives the same weights.",
        "数据、机器和库版本相同时，得到的权重也相同。",
    ),
    "redraw_about": ("To draw this page again:", "重新生成本页："),
    # the model card
    "card_title": ("{model} for {data}", "{model}，用于 {data}"),
    "card_classes": ("Classes", "类别"),
    "card_licence": ("Licence", "许可证"),
    "card_licence_known": ("The licence of the weights is {licence}.", "权重的许可证为 {licence}。"),
    "card_licence_non_commercial": (
        "**Not for commercial use.** The licence of the weights, {licence}, forbids it, for this model and for its "
        "exports.",
        "**不得用于商业用途。** 权重的许可证 {licence} 禁止商业使用，本模型及其导出文件均受此限。",
    ),
    "card_licence_unknown": (
        "The licence of the weights is not known.",
        "权重的许可证未知。",
    ),
    "card_exports": ("Exports", "导出文件"),
    "card_exports_about": (
        "The folder `{folder}` has the model for other runtimes. `golden.npz` and `golden.json` contain inputs and the "
        "answers that a program must compute from them.",
        "文件夹 `{folder}` 中是供其他运行时使用的模型。`golden.npz` 和 `golden.json` 中是若干输入，"
        "以及程序应当算出的答案。",
    ),
    "card_target": ("target", "目标"),
    "card_loaded_by": ("loaded by", "加载方式"),
    "card_limits": ("Limits", "局限"),
    "card_limits_about": (
        "The scores hold for items like the held-out ones, which come from the same source as the training items. "
        "Other cameras, places, devices or authors can lower them: measure on your own items before you rely on "
        "the model.",
        "这些得分只适用于与留出样本类似的样本，它们与训练样本来自同一来源。换了相机、地点、设备或作者，得分可能更低："
        "使用之前，请先在自己的样本上测量。",
    ),
    # its curves
    "loss": ("loss", "损失"),
    "val_accuracy_of": ("validation accuracy, %, of {views}", "{views}的验证准确率，%"),
    "loss_in": ("loss in {how}", "{how}的损失"),
    "strength": ("L2 strength of the fitted head", "拟合分类头的 L2 强度"),
    "curve_training": ("training", "训练"),
    "curve_validation": ("validation", "验证"),
    "epoch": ("epoch", "轮"),
    "val_accuracy": ("validation accuracy, %", "验证准确率，%"),
    "lr_last_step": ("learning rate of the epoch's last step", "每轮最后一步的学习率"),
    "learning_rate": ("learning rate", "学习率"),
    "tried": ("tried", "尝试过的"),
    "chosen": ("chosen", "选定的"),
}
