"""The words of drawings and pages of a network's structure, in English and Chinese."""

from __future__ import annotations

STRUCTURE: dict[str, tuple[str, str]] = {
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
}
