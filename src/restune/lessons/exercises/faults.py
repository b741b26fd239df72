"""Explanations of typical mistakes, by name, in both languages."""

from __future__ import annotations

from restune.core.language import Text

FAULTS: dict[str, Text] = {
    # Of any file
    "missing-name": Text(
        "The file does not define `{name}`. Keep the names of the skeleton: the checks call them.",
        "文件里没有定义 `{name}`。请保留骨架中的名字，检查程序要按名字调用。",
    ),
    "syntax": Text("Python cannot read the file. Line {where}: {what}", "Python 读不懂这个文件。第 {where} 行：{what}"),
    "raised": Text("Your code raised an exception. Line {where}: {what}", "你的代码抛出了异常。第 {where} 行：{what}"),
    "not-written": Text(
        "This part is still the skeleton's `raise NotImplementedError`: write it first.",
        "这一部分还是骨架里的 `raise NotImplementedError`，请先把它写出来。",
    ),
    "no-super-init": Text(
        "`super().__init__()` must be the first line of `__init__`: nn.Module needs it to register layers.",
        "`__init__` 的第一行必须是 `super().__init__()`，否则 nn.Module 无法登记子层。",
    ),
    "time": Text(
        "The check did not end within {seconds} seconds and was stopped: look for a loop that never ends, or train "
        "for fewer epochs.",
        "检查在 {seconds} 秒内没有结束，已被中止：请看看有没有死循环，或者减少训练轮数。",
    ),
    "flood": Text(
        "Your code printed more than {size} and was stopped: look for a `print` in a loop that never ends.",
        "你的代码输出了超过 {size} 的内容，已被中止：请看看是不是有个死循环里在 `print`。",
    ),
    "ended": Text(
        "Python itself ended during this check (exit status {status}): a crash in native code, `os._exit`, or too "
        "little memory. Last words: {last}",
        "检查过程中 Python 进程自己结束了（退出码 {status}）：可能是底层代码崩溃、调用了 `os._exit`，或者内存不足。"
        "最后的输出：{last}",
    ),
    "not-a-module": Text(
        "`{name}` must be (or return) a `torch.nn.Module`; it is {found}.",
        "`{name}` 应当是（或返回）`torch.nn.Module`，现在得到的是 {found}。",
    ),
    # Of blocks
    "wrong-padding": Text(
        "A 3x3 convolution without `padding=1` takes one pixel off every edge, so the branch's output no longer fits "
        "the shortcut. `padding = kernel_size // 2` keeps the size.",
        "3x3 卷积如果没有 `padding=1`，每条边都会少一个像素，分支的输出就和捷径对不上了。"
        "`padding = kernel_size // 2` 可以保持尺寸不变。",
    ),
    "wrong-shape": Text("The output has shape {found}; expected {expected}.", "输出形状是 {found}，应为 {expected}。"),
    "no-expansion": Text(
        "The output has {found} channels; expected {expected}. A bottleneck's last 1x1 convolution widens to "
        "`width * expansion` channels, with expansion = 4.",
        "输出有 {found} 个通道，应为 {expected} 个。瓶颈块最后的 1x1 卷积要把通道数升到 `width * expansion`，"
        "其中 expansion = 4。",
    ),
    "no-expansion-added": Text(
        "The branch's output cannot be added to the input: it has another number of channels. A bottleneck's last 1x1 "
        "convolution widens to `width * expansion` channels, with expansion = 4.",
        "分支的输出与输入通道数不同，无法相加。瓶颈块最后的 1x1 卷积要把通道数升到 `width * expansion`，"
        "其中 expansion = 4。",
    ),
    "conv-bias": Text(
        "Your block has {found} parameters; expected {expected}. The surplus is the convolutions' biases: batch norm "
        "subtracts the mean right afterwards and so cancels any bias. Use `bias=False`.",
        "你的块有 {found} 个参数，应为 {expected} 个。多出来的是卷积的偏置：后面的批归一化会减去均值，"
        "偏置随之抵消，没有作用。请写 `bias=False`。",
    ),
    "no-norm": Text(
        "Your block has {found} parameters; expected {expected}. The difference is that of the batch norms: each "
        "convolution is followed by one.",
        "你的块有 {found} 个参数，应为 {expected} 个。差的正好是批归一化的参数：每个卷积后面都要有一个。",
    ),
    "shared-norm": Text(
        "Your block has {found} parameters; expected {expected}. One batch norm is missing or is used for two "
        "convolutions. Each needs its own: their outputs have different statistics.",
        "你的块有 {found} 个参数，应为 {expected} 个。少了一个批归一化，或者两个卷积共用了同一个。"
        "两个卷积的输出统计量不同，要各用各的。",
    ),
    "one-convolution": Text(
        "Your block has {found} parameters; expected {expected}: a convolution is missing, or one is used twice.",
        "你的块有 {found} 个参数，应为 {expected} 个：少了一个卷积，或者同一个卷积用了两次。",
    ),
    "always-projects": Text(
        "Where input and output have the same shape the shortcut is the identity and has no parameters; yours has a "
        "projection there ({found} parameters; expected {expected}). The identity is the point: it lets the signal "
        "and the gradient pass unchanged (He et al. 2016, identity mappings).",
        "输入输出形状相同时，捷径就是恒等映射，没有参数；你的块在这里也用了投影（{found} 个参数，应为 {expected} 个）。"
        "恒等正是关键：信号和梯度可以原样通过（He 等 2016，identity mappings）。",
    ),
    "projection-without-norm": Text(
        "Your block has {found} parameters; expected {expected}. The projection's 1x1 convolution is followed by a "
        "batch norm too, else the two summands have different scales.",
        "你的块有 {found} 个参数，应为 {expected} 个。投影用的 1x1 卷积后面也要有批归一化，否则相加的两项尺度不一致。",
    ),
    "projection-not-1x1": Text(
        "Your block has {found} parameters; expected {expected}. The projection is a 1x1 convolution: it only changes "
        "the number of channels and, with its stride, the size.",
        "你的块有 {found} 个参数，应为 {expected} 个。投影是 1x1 卷积：只改变通道数，并用步幅改变尺寸。",
    ),
    "parameters": Text(
        "Your block has {found} parameters; expected {expected}. Check kernel sizes, channels, `bias=False`, and that "
        "every layer is assigned to `self`.",
        "你的块有 {found} 个参数，应为 {expected} 个。请检查卷积核大小、通道数、`bias=False`，"
        "以及每个层是否都赋给了 `self`。",
    ),
    "shortcut-not-projected": Text(
        "The block changes the shape of its input, but the shortcut passes the input on as it is, so the two cannot "
        "be added. Project it: a 1x1 convolution with the block's stride, then batch norm.",
        "这个块改变了输入的形状，而捷径把输入原样传了过去，两者无法相加。要对捷径做投影：步幅与块相同的 1x1 卷积，"
        "再接批归一化。",
    ),
    "stride-not-in-shortcut": Text(
        "With stride 2 the branch halves the size, but the shortcut does not (or only one of them does). The "
        "projection needs the same stride, and is needed when the stride is not 1 even if the channels are equal.",
        "步幅为 2 时分支的尺寸减半了，捷径却没有（或者只有其中之一减半）。投影要用同样的步幅；"
        "并且只要步幅不是 1，即使通道数相同也需要投影。",
    ),
    "stride-twice": Text(
        "The output is smaller than expected: {found} for {expected}. Only one convolution of the branch has the "
        "stride; the others have stride 1.",
        "输出比预期小：{found}，应为 {expected}。分支里只有一个卷积带步幅，其余卷积的步幅都是 1。",
    ),
    "stride-ignored": Text(
        "The output is larger than expected: {found} for {expected}. The block's `stride` is not used.",
        "输出比预期大：{found}，应为 {expected}。块的 `stride` 参数没有用上。",
    ),
    "signature": Text(
        "The constructor does not take the arguments that the task names: {what}. A block takes "
        "`(in_channels, out_channels, stride=1)`-like arguments so that one class serves every place in the network.",
        "构造函数不接受题目规定的参数：{what}。块要接受 `(in_channels, out_channels, stride=1)` 这样的参数，"
        "一个类才能用在网络的每个位置。",
    ),
    "input-changed": Text(
        "The block changes its input in place (`x += ...`, or `ReLU(inplace=True)` on x itself). The input is still "
        "needed by the shortcut and by whoever passed it in. Write `out = out + x`, or change your own tensors.",
        "这个块原地修改了输入（`x += ...`，或者直接对 x 用 `ReLU(inplace=True)`）。捷径和调用者都还要用这个输入。"
        "请写 `out = out + x`，或者只对自己新算出的张量做原地运算。",
    ),
    "inplace-on-needed": Text(
        "An in-place operation overwrote a tensor that the backward pass still needs. `out += x` is safe on a batch "
        "norm's output but not on the output of a function that saves its result, such as ReLU or sigmoid. Write "
        "`out = out + x`.",
        "原地运算覆盖了反向传播还要用的张量。`out += x` 用在批归一化的输出上没有问题，"
        "但用在会保存自身输出的函数（如 ReLU、sigmoid）之后就不行。请写 `out = out + x`。",
    ),
    "no-gradient": Text(
        "The parameter `{name}` gets no gradient: its layer is not used in `forward`, or its result is detached.",
        "参数 `{name}` 没有得到梯度：它所在的层没有在 `forward` 中用到，或者结果被 detach 了。",
    ),
    "relu-before-sum": Text(
        "You apply ReLU to the branch before the sum. Then the branch can only add, never subtract, and the signal "
        "grows from block to block. The order is: convolution, norm, sum, ReLU (He et al. 2015, figure 2).",
        "你在相加之前对分支用了 ReLU。这样分支只能做加法、不能做减法，信号会逐块增大。"
        "正确的顺序是：卷积、归一化、相加、ReLU（He 等 2015，图 2）。",
    ),
    "no-relu-after-sum": Text(
        "The ReLU after the sum is missing.",
        "相加之后缺少 ReLU。",
    ),
    "no-relu-inside": Text(
        "A ReLU between the convolutions is missing: two linear layers in a row are one linear layer.",
        "卷积之间缺少 ReLU：两个线性层直接相连，等于只有一个线性层。",
    ),
    "no-shortcut": Text(
        "The shortcut is not added: the output is that of a plain stack. `out = branch(x) + shortcut(x)` is what "
        "makes the block residual.",
        "没有把捷径加上，输出与普通堆叠网络相同。`out = branch(x) + shortcut(x)` 才是残差块的本质。",
    ),
    "relu-on-shortcut": Text(
        "The shortcut passes through a ReLU of its own before the sum, so it is not linear. Only norm follows the "
        "projection.",
        "捷径在相加之前自己经过了 ReLU，不再是线性的。投影之后只接归一化。",
    ),
    "shortcut-from-inside": Text(
        "The shortcut starts from a tensor inside the branch and not from the block's input (a variable was "
        "overwritten: `x = self.conv1(x)`). Keep the input in a variable of its own.",
        "捷径是从分支中间的张量出发的，而不是块的输入（变量被覆盖了：`x = self.conv1(x)`）。请另用一个变量保存输入。",
    ),
    "stride-in-first": Text(
        "The stride is in the first 1x1 convolution. So it was in the first paper, but a 1x1 convolution with stride 2 "
        "skips three quarters of its input; torchvision and this exercise put the stride into the 3x3 convolution "
        "(ResNet v1.5).",
        "步幅放在了第一个 1x1 卷积里。最初的论文是这样，但步幅为 2 的 1x1 卷积会跳过四分之三的输入；"
        "torchvision 和本题把步幅放在 3x3 卷积里（ResNet v1.5）。",
    ),
    "layers-differ": Text(
        "The layers that ran do not match those of the reference: found {found}; expected {expected}. Use "
        "`nn.Conv2d`, `nn.BatchNorm2d` and `nn.Linear` modules, each once.",
        "实际运行的层与参考实现不一致：得到 {found}，应为 {expected}。请使用 `nn.Conv2d`、`nn.BatchNorm2d` 和 "
        "`nn.Linear` 模块，每个用一次。",
    ),
    "differs": Text(
        "With the same weights your output differs from the reference by up to {difference:.2g}. The shapes and "
        "parameters are right, so look at the order of the operations in `forward`.",
        "在相同权重下，你的输出与参考实现最多相差 {difference:.2g}。形状和参数都对，请检查 `forward` 里的运算顺序。",
    ),
    "not-identity": Text(
        "With the last norm's weight and bias at zero the branch is silent and the block must return ReLU(x); yours "
        "differs by up to {difference:.2g}. This is why zero-initialised residual branches start as the identity "
        "(Goyal et al. 2017).",
        "最后一个归一化的权重和偏置为零时，分支没有输出，块应当返回 ReLU(x)；你的结果最多相差 {difference:.2g}。"
        "零初始化的残差分支之所以从恒等映射开始训练，就是这个道理（Goyal 等 2017）。",
    ),
    # Of whole networks
    "layers-in-a-list": Text(
        "The network has {found} parameters; expected {expected}. Layers kept in a Python list or dict are not "
        "registered: use `nn.Sequential` or `nn.ModuleList`.",
        "网络只有 {found} 个参数，应为 {expected} 个。放在 Python 列表或字典里的层不会被登记，"
        "请使用 `nn.Sequential` 或 `nn.ModuleList`。",
    ),
    "network-parameters": Text(
        "With layers {layers} the network has {found} parameters; expected {expected}. Check the number of blocks in "
        "each stage, their channels, and the head.",
        "layers = {layers} 时网络有 {found} 个参数，应为 {expected} 个。请检查每个阶段的块数、通道数和分类头。",
    ),
    "network-bias": Text(
        "With layers {layers} the network has {found} parameters; expected {expected}. The surplus is the "
        "convolutions' biases: batch norm cancels them. Use `bias=False`.",
        "layers = {layers} 时网络有 {found} 个参数，应为 {expected} 个。多出来的是卷积偏置，"
        "会被批归一化抵消。请写 `bias=False`。",
    ),
    "depth-ignored": Text(
        "With layers {layers} the network has {found} parameters; expected {expected}, and it has as many for other "
        "`layers`: the argument is not used.",
        "layers = {layers} 时网络有 {found} 个参数，应为 {expected} 个；换成别的 `layers` 参数量也不变，"
        "说明这个参数没有用上。",
    ),
    "channels-not-carried": Text(
        "A block gets an input with another number of channels than it was built for. After the first block of a stage "
        "the running number of channels must become `channels * block.expansion`.",
        "某个块收到的通道数和构造时不同。每个阶段的第一个块之后，当前通道数必须更新为 `channels * block.expansion`。",
    ),
    "head-size": Text(
        "The head does not fit the pooled features. Its input is `512 * block.expansion`: 512 for basic blocks, 2048 "
        "for bottlenecks.",
        "分类头与池化后的特征维数不符。它的输入维数是 `512 * block.expansion`：基本块为 512，瓶颈块为 2048。",
    ),
    "no-global-pool": Text(
        "The network works at 224 pixels only. Global average pooling (`nn.AdaptiveAvgPool2d(1)`) makes the head "
        "independent of the image size; a fixed 7x7 pool or flattened map does not.",
        "网络只能处理 224 像素的图像。全局平均池化（`nn.AdaptiveAvgPool2d(1)`）让分类头与图像尺寸无关；"
        "固定的 7x7 池化或直接展平则不行。",
    ),
    "stage-size": Text(
        "For {image} pixels the last stage's map is {found}; expected {expected}. The stem divides the size by 4 "
        "(a convolution and a max pool of stride 2 each); the first block of stages 2 to 4 has stride 2, every other "
        "block stride 1.",
        "{image} 像素的图像在最后一个阶段得到 {found} 的特征图，应为 {expected}。主干把尺寸缩小到 1/4（步幅为 2 的"
        "卷积和最大池化）；第 2 到 4 阶段只有第一个块的步幅为 2，其余块的步幅都是 1。",
    ),
    "softmax-in-network": Text(
        "The network's output sums to 1: it ends in a softmax. Return logits; the loss applies log-softmax itself.",
        "网络的输出之和为 1，说明结尾有 softmax。请返回 logits，损失函数自己会做 log-softmax。",
    ),
    # Of training
    "no-steps": Text(
        "`optimizer.step()` was never called: nothing learned.",
        "从未调用 `optimizer.step()`，模型什么也没学到。",
    ),
    "no-zero-grad": Text(
        "`optimizer.step()` was called {steps} times but the gradients were cleared only {cleared} times. PyTorch adds "
        "new gradients to the old ones: call `optimizer.zero_grad()` before every backward pass.",
        "`optimizer.step()` 调用了 {steps} 次，而梯度只清零了 {cleared} 次。PyTorch 会把新梯度累加到旧梯度上："
        "每次反向传播之前都要调用 `optimizer.zero_grad()`。",
    ),
    "softmax-before-loss": Text(
        "The cross-entropy got probabilities that sum to 1. `F.cross_entropy` expects logits and applies log-softmax "
        "itself; a second softmax flattens the gradients.",
        "交叉熵收到的是和为 1 的概率。`F.cross_entropy` 要的是 logits，它自己会做 log-softmax；"
        "再做一次 softmax 会把梯度压平。",
    ),
    "forgotten-eval": Text(
        "The returned model is still in training mode: its answer for an image depends on the other images in the "
        "batch, through batch norm. Call `model.eval()` before you return it or predict.",
        "返回的模型还处于训练模式：由于批归一化，它对一张图像的回答会受同一批里其他图像影响。"
        "返回或预测之前请调用 `model.eval()`。",
    ),
    "too-inaccurate": Text(
        "The model answers {accuracy:.1%} of 360 held-out digits correctly; expected at least {wanted:.0%}. Train for "
        "more epochs, shuffle in each epoch, and check the learning rate.",
        "模型在 360 个留出的数字上正确率为 {accuracy:.1%}，要求至少 {wanted:.0%}。请多训练几轮，每轮打乱顺序，"
        "并检查学习率。",
    ),
    # Of fine-tuning
    "weights-not-loaded": Text(
        "The layer `{name}` does not have the file's weights. Load the state dict before you replace the head, and "
        "look at what `load_state_dict` returns: with `strict=False` it passes over names that do not match.",
        "层 `{name}` 的权重与文件不同。请先加载 state dict 再替换分类头，并检查 `load_state_dict` 的返回值："
        "`strict=False` 会悄悄跳过名字对不上的张量。",
    ),
    "head-before-weights": Text(
        "The file's head is for 1,000 classes and no longer fits: load the weights first, then replace the head.",
        "文件里的分类头对应 1000 个类别，已经放不进去了：请先加载权重，再替换分类头。",
    ),
    "head-not-replaced": Text(
        "The model returns {found} logits for {expected} classes: replace the last layer, "
        "`model.fc = nn.Linear(model.fc.in_features, num_classes)`.",
        "模型对 {expected} 个类别返回了 {found} 个 logits：请替换最后一层，"
        "`model.fc = nn.Linear(model.fc.in_features, num_classes)`。",
    ),
    "body-not-frozen": Text(
        "`{name}` still requires gradients. Freeze all parameters but the head's: `parameter.requires_grad_(False)`.",
        "`{name}` 仍然需要梯度。除分类头以外的参数都要冻结：`parameter.requires_grad_(False)`。",
    ),
    "head-frozen": Text(
        "The new head does not require gradients: it was frozen together with the rest. Freeze first, then replace the "
        "head, or switch its gradients on again.",
        "新的分类头不需要梯度：它和其他层一起被冻结了。请先冻结再替换分类头，或者重新打开它的梯度。",
    ),
    "body-moves": Text(
        "`{name}` changed during training although it should be frozen. The optimizer must get the head's parameters "
        "only, and the rest must not require gradients.",
        "`{name}` 本应冻结，却在训练中改变了。优化器只应得到分类头的参数，其余参数不应需要梯度。",
    ),
    "norms-drift": Text(
        "The running statistics `{name}` moved during training. `requires_grad_(False)` freezes a batch norm's weight "
        "and bias but not its statistics: in training mode every batch moves them. Call `.eval()` on the frozen "
        "norms after `model.train()`.",
        "训练时运行统计量 `{name}` 改变了。`requires_grad_(False)` 只冻结批归一化的权重和偏置，不冻结统计量："
        "训练模式下每个批次都会改变它们。请在 `model.train()` 之后对被冻结的归一化层调用 `.eval()`。",
    ),
    "head-does-not-move": Text(
        "The head did not change in a training epoch. Build the optimizer after the head was replaced: an optimizer "
        "built earlier holds the parameters of the old head.",
        "训练一轮之后分类头没有变化。请在替换分类头之后再创建优化器：更早创建的优化器里是旧分类头的参数。",
    ),
    "unsafe-load": Text(
        "The weights were loaded with `weights_only=False`, which runs any code that the file contains. Use "
        "`torch.load(path, weights_only=True)`.",
        "加载权重时用了 `weights_only=False`，文件里的任何代码都会被执行。请使用 "
        "`torch.load(path, weights_only=True)`。",
    ),
    # Of the listing to debug
    "block-takes-no-stride": Text(
        "The block's constructor does not take what the network passes: {what}. `_make_layer` builds blocks with a "
        "stride and a `downsample` module, so the block must take both and use them.",
        "块的构造函数不接受网络传来的参数：{what}。`_make_layer` 用步幅和 `downsample` 模块来构造块，"
        "所以块必须接受并使用这两个参数。",
    ),
    "block-has-no-expansion": Text(
        "The block has no attribute `expansion`, which the network reads to know its output channels. Write "
        "`expansion = 1` in the class.",
        "块没有 `expansion` 属性，而网络要靠它知道输出通道数。请在类里写 `expansion = 1`。",
    ),
}
