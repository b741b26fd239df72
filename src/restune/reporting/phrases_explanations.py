"""The words of the pages of explanations, in English and Chinese."""

from __future__ import annotations

EXPLANATION_PHRASES: dict[str, tuple[str, str]] = {
    "explain_title": ("What {name} looks at", "{name} 看的是哪里"),
    "explain_count_one": ("1 input explained.", "解释了 1 个输入。"),
    "explain_count": ("{n} inputs explained.", "解释了 {n} 个输入。"),
    "explain_unread": ("{n} could not be read.", "{n} 个无法读取。"),
    "explain_reading": ("How to read the pictures", "如何看这些图"),
    "explain_legend": (
        "Orange speaks for the class, violet against it; the stronger the colour, the more it counts. Colours are "
        "scaled to the largest value of each input, so compare regions of one input, not inputs.",
        "橙色支持该类别，紫色反对该类别，颜色越深影响越大。颜色按每个输入自身的最大值缩放，因此只能比较同一输入内的区域，"
        "不能比较不同的输入。",
    ),
    "explain_image": (
        "Outlined: at least half of the largest value. Faded: outside the crop that the network saw.",
        "描边处：不低于最大值的一半。变淡处：在裁剪范围之外，网络没有看到。",
    ),
    "explain_video": (
        "The frames are those of the middle clip, as the network saw them. Outlined: at least half of the largest "
        "value.",
        "所示为中间片段的帧，与网络所见相同。描边处：不低于最大值的一半。",
    ),
    "explain_signal": (
        "The bars below the curves show the same values: upwards for the class, downwards against it.",
        "曲线下方的条形表示相同的数值：向上为支持，向下为反对。",
    ),
    "explain_text": (
        "Underlined: at least half of the largest value; dotted: as much against the class.",
        "下划线：不低于最大值的一半；点线：以同等强度反对该类别。",
    ),
    "explain_cam": (
        "Class activation map of stage {stage}: with average pooling and a linear head it is exact, the mean of its "
        "values plus the bias is the logit.",
        "第 {stage} 阶段的类激活图：在平均池化加线性分类头的网络中它是精确的，各位置数值的平均加上偏置就是 logit。",
    ),
    "explain_cam_largest": (
        "Class activation map of stage {stage}: each channel counts where its largest values are, since the network "
        "pools those. It is exact: the mean of its values plus the bias is the logit.",
        "第 {stage} 阶段的类激活图：网络池化时取每个通道的最大值，因此各通道只在最大值所在处计入。它是精确的："
        "各位置数值的平均加上偏置就是 logit。",
    ),
    "explain_cam_hidden": (
        "Gradient times activation at stage {stage}: a first-order approximation, since hidden layers follow the pool.",
        "第 {stage} 阶段的梯度乘激活值：池化之后还有隐藏层，因此这是一阶近似。",
    ),
    "explain_empty": ("(empty)", "（空）"),
    "explain_gradcam": (
        "Grad-CAM at stage {stage}: a first-order approximation.",
        "第 {stage} 阶段的 Grad-CAM：一阶近似。",
    ),
    "explain_occlusion": (
        "Occlusion: how much the logit falls when a window is covered.",
        "遮挡法：遮住一个窗口后 logit 下降多少。",
    ),
    "explain_integrated-gradients": (
        "Integrated gradients from an input of zeros.",
        "积分梯度，基线为全零输入。",
    ),
    "explain_limit": (
        "A map shows where the evidence is, not whether it is the right evidence: a background that always comes "
        "with a class lights up, too.",
        "热力图显示证据在哪里，但不说明证据是否可靠：总与某个类别一起出现的背景同样会亮起。",
    ),
    "explain_predicted": ("predicted: {label}, {probability}", "预测：{label}，{probability}"),
    "explain_explained": ("explained: {label}, {probability}", "解释的类别：{label}，{probability}"),
    "explain_alt": (
        "{input}: what speaks for {label}; the strongest evidence is {where}",
        "{input}：支持 {label} 的依据；最强处在{where}",
    ),
    "explain_where_image": ("{y} {x}", "{y}{x}"),
    "explain_top": ("at the top", "上部"),
    "explain_middle": ("in the middle", "中部"),
    "explain_bottom": ("at the bottom", "下部"),
    "explain_left": ("left", "偏左"),
    "explain_centre": ("centre", "正中"),
    "explain_right": ("right", "偏右"),
    "explain_where_series": ("at position {n}", "位置 {n}"),
    "explain_where_text": ("at “{word}”", "“{word}”"),
    "explain_channel": ("channel {n}", "通道 {n}"),
    "explain_bars": ("evidence", "证据"),
    "explain_more": (
        "Only the first {n} are shown here; {folder} holds the files of all.",
        "这里只显示前 {n} 个；全部文件都在 {folder} 中。",
    ),
    "explain_inputs": ("Inputs", "输入"),
    "explain_open": ("open the picture", "打开图片"),
    "explain_back": ("all inputs", "全部输入"),
}
