"""Words that several lessons' plots and tables use."""

from __future__ import annotations

from restune.core.language import Text

NETWORK = Text("network", "网络")
DEPTH = Text("depth", "深度")
EPOCH = Text("epoch", "轮")
TRAIN_LOSS = Text("training loss", "训练损失")
VAL_ACCURACY = Text("validation accuracy", "验证正确率")
PARAMETERS = Text("parameters", "参数")
