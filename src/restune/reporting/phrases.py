"""The words of pages and drawings in English and Chinese: one table for all pages."""

from __future__ import annotations

from collections.abc import Callable

from restune.core.language import LANGUAGES, resolve_language
from restune.reporting.phrases_explanations import EXPLANATION_PHRASES

PHRASES: dict[str, tuple[str, str]] = {
    # parts and figures
    "stem": ("stem", "输入层"),
    "stage": ("stage {n}", "第 {n} 阶段"),
    "head": ("head", "分类头"),
    "input": ("input {shape}", "输入 {shape}"),
    "logits": ("{n} logits", "{n} 个 logits"),
    "parameters": ("{n} parameters", "{n} 参数"),
    "flops": ("{n} multiply-adds", "{n} 次乘加"),
    "activations": ("{n} activations", "{n} 激活值"),
    "receptive_field": ("receptive field {n}", "感受野 {n}"),
    "whole_input": ("receptive field: all", "感受野：全部输入"),
    "gates_see_all": (
        "Receptive fields are those of convolutions and pools; the attention gates read all positions.",
        "感受野只计卷积与池化；注意力门读取全部位置。",
    ),
    # blocks
    "block": ("block {n}", "第 {n} 块"),
    "blocks": ("blocks {first}–{last}", "第 {first}–{last} 块"),
    "count_block": ("1 block", "1 块"),
    "count_blocks": ("{n} blocks", "{n} 块"),
    "times": ("× {n}", "× {n}"),
    "identity": ("identity", "恒等"),
    "projection": ("B: projection", "B：投影"),
    "A": ("A: zeros", "A：补零"),
    "C": ("C: projection", "C：投影"),
    "D": ("D: average, project", "D：平均后投影"),
    "norm": ("norm only", "仅归一化"),
    "other": ("shortcut", "捷径"),
    "none": ("no shortcut", "无捷径"),
    "groups": ("{n} groups", "{n} 组"),
    "dilation": ("dilation {n}", "空洞 {n}"),
    "gate": ("gate", "门"),
    "embedding": ("embed", "嵌入"),
    "linear": ("linear", "全连接"),
    "max_pool": ("max pool", "最大池化"),
    "average_pool": ("avg pool", "平均池化"),
    "zeros": ("zeros", "补零"),
    "global": ("global", "全局"),
    "pool_average": ("average", "平均"),
    "pool_max": ("maximum", "最大"),
    "pool_average+max": ("avg + max", "平均+最大"),
    "pool_k-max": ("k-max", "k-max"),
    # on hovering
    "hover_kernel": (", kernel {kernel}, stride {stride}", "，核 {kernel}，步幅 {stride}"),
    "hover_dilation": (", dilation {n}", "，空洞率 {n}"),
    "hover_groups": (", {n} groups", "，{n} 组"),
    "hover_branch": ("branch: {layer}", "分支：{layer}"),
    "hover_shortcut": ("shortcut: {layer}", "捷径：{layer}"),
    "hover_sum": ("sum of branch and shortcut", "分支与捷径相加"),
    # legend
    "legend_conv": ("convolution: kernel /stride, channels", "卷积：核 /步幅，通道数"),
    "legend_norm": ("norm", "归一化"),
    "legend_activation": ("ReLU", "ReLU"),
    "legend_activation_other": ("activation", "激活函数"),
    "legend_pool": ("pool", "池化"),
    "legend_attention": ("attention gate", "注意力门"),
    "legend_sum": ("sum", "相加"),
    "legend_shortcut": ("shortcut", "捷径"),
    "legend_linear": ("linear", "全连接"),
    "legend_embedding": ("embedding", "嵌入"),
    "legend_differs": ("differs", "不同之处"),
    # roles, one sentence each
    "role_stem_pool": (
        "Turns the input into {channels} feature maps at 1/{stride} of its resolution, which makes the blocks cheaper.",
        "把输入变成 {channels} 个特征图，分辨率降到 1/{stride}，后面的残差块才算得起。",
    ),
    "role_stem_full": (
        "Turns the input into {channels} feature maps at full resolution: small inputs have no detail to spare.",
        "把输入变成 {channels} 个特征图，保持全分辨率：小尺寸输入没有可以舍弃的细节。",
    ),
    "role_stem_none": (
        "There is no stem: the first block reads the input itself.",
        "没有输入层：第一个块直接读取输入。",
    ),
    "role_stem_embedding": (
        "Looks up {channels} numbers for each token, so that similar tokens can get similar features.",
        "为每个词元查出 {channels} 个数，使相近的词元可以有相近的特征。",
    ),
    "role_down": (
        "Divides the resolution by {stride}, goes from {before} to {after} channels: fewer positions, more features.",
        "分辨率除以 {stride}，通道数由 {before} 变为 {after}：位置更少，每个位置的特征更多。",
    ),
    "role_same": (
        "Keeps the resolution and refines features at this scale.",
        "保持分辨率，在这一尺度上细化特征。",
    ),
    "role_wider": (
        "Keeps the resolution and goes from {before} to {after} channels.",
        "保持分辨率，通道数由 {before} 变为 {after}。",
    ),
    "role_identity": (
        "Each block adds a correction to its input, which the identity shortcut passes on unchanged.",
        "每个块只学习一个修正量，加到恒等捷径原样传递的输入上。",
    ),
    "role_projection": (
        "The first shortcut must change shape, too, before the two can be summed.",
        "第一个块的捷径也要改变形状，两路才能相加。",
    ),
    "role_zeros": (
        "The first shortcut skips positions and adds channels of zeros, without parameters.",
        "第一个块的捷径跳取位置并补零通道，不需要参数。",
    ),
    "role_project_all": (
        "Every shortcut projects, even where shapes agree: more parameters, no identity path.",
        "每条捷径都做投影，形状相同时也不例外：参数更多，没有恒等路径。",
    ),
    "role_normed": (
        "Shortcuts pass through a norm before the sum.",
        "捷径先经过归一化再相加。",
    ),
    "role_plain": (
        "There are no shortcuts: each block replaces its input, and gradients must pass through every layer.",
        "没有捷径：每个块都替换其输入，梯度必须穿过每一层。",
    ),
    "role_bottleneck": (
        "Narrow 1×1 convolutions around the wide kernel keep it cheap.",
        "大卷积核前后的 1×1 卷积先降维再升维，从而节省计算。",
    ),
    "role_head_average": (
        "Averages each feature map to one number, wherever a feature is, and scores the classes linearly.",
        "把每个特征图平均成一个数，与特征的位置无关，再线性地给各类别打分。",
    ),
    "role_head_max": (
        "Keeps the largest values of each feature map and scores the classes from them.",
        "保留每个特征图的最大值，据此给各类别打分。",
    ),
    # pages
    "structure_of": ("Structure of {name}", "{name} 的结构"),
    "comparison_of": ("{one} and {two}, compared", "{one} 与 {two} 的比较"),
    "conclusion": (
        "{name} has {parameters} parameters and takes {flops} multiply-adds for one input of {shape}; "
        "a position of its last stage depends on {field} positions of the input.",
        "{name} 有 {parameters} 个参数，处理一个 {shape} 的输入需要 {flops} 次乘加；"
        "最后阶段的每个位置取决于输入中 {field} 个位置。",
    ),
    "difference": (
        "{two} has {parameters} times the parameters, {flops} times the multiply-adds and {activations} times the "
        "activations of {one}.",
        "{two} 的参数是 {one} 的 {parameters} 倍，乘加是 {flops} 倍，激活值是 {activations} 倍。",
    ),
    "how_to_read": (
        "Click a heading to fold a stage; click × to see every block. Hover over a box for its layers.",
        "点击标题可折叠一个阶段，点击 × 可展开每个块；把指针停在方框上可看到其中的层。",
    ),
    "fold_all": ("fold all", "全部折叠"),
    "unfold_all": ("unfold all", "全部展开"),
    "every_block": ("every block", "每个块"),
    "numbers": ("Parts", "各部分"),
    "blocks_heading": ("Blocks", "各块"),
    "repeat": ("How to repeat this", "如何重现"),
    "part": ("part", "部分"),
    "role": ("role", "作用"),
    "output": ("output", "输出"),
    "col_parameters": ("parameters", "参数"),
    "col_flops": ("multiply-adds", "乘加"),
    "col_activations": ("activations", "激活值"),
    "col_receptive_field": ("receptive field", "感受野"),
    "col_block": ("block", "块"),
    "col_shortcut": ("shortcut", "捷径"),
    "col_layers": ("layers", "层"),
    "total": ("total", "合计"),
    "all": ("all", "全部"),
    "definitions": (
        "A multiply-add counts as one. Activations are the output values of convolutions and linear layers. The "
        "receptive field is the extent of the input that one output position depends on.",
        "一次乘加计为一次运算。激活值是卷积层与全连接层的输出个数。感受野是一个输出位置所依赖的输入范围。",
    ),
    "source": ("Source", "出处"),
    "published": (
        "published accuracy: {accuracy} on {data} ({source})",
        "已发布的准确率：{data} 上 {accuracy}（{source}）",
    ),
    "weights": ("weights", "权重"),
    # the report of a run
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
    "training": ("Training", "训练"),
    "training_curves": ("training curves", "训练曲线"),
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
    "true_predicted": ("true \\ predicted", "真实 \\ 预测"),
    "predicted_as": (
        "{count} of {name} predicted as {other}: {share}%",
        "{name} 中有 {count} 个预测为 {other}：{share}%",
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
    # its curves
    "loss": ("loss", "损失"),
    "val_accuracy": ("validation accuracy, %", "验证准确率，%"),
    "val_accuracy_of": ("validation accuracy, %, of {views}", "{views}的验证准确率，%"),
    "lr_at_end": ("learning rate at the epoch's end", "每轮结束时的学习率"),
    "loss_in": ("loss in {how}", "{how}的损失"),
    "strength": ("L2 strength of the fitted head", "拟合分类头的 L2 强度"),
    "curve_training": ("training", "训练"),
    "curve_validation": ("validation", "验证"),
    "epoch": ("epoch", "轮"),
    **EXPLANATION_PHRASES,
}


def phrases(language: str | None) -> Callable[..., str]:
    """Return a function from a phrase's key, and the values in it, to text. Raises UserError for other languages.

    >>> phrases("en")("stage", n=2)
    'stage 2'
    """
    column = LANGUAGES.index(resolve_language(language))

    def say(key: str, **values: object) -> str:
        return PHRASES[key][column].format(**values)

    return say
