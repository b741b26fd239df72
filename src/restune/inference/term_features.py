"""Features of texts without a trained network: weighted terms, reduced by latent semantic analysis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

_MOST_TERMS = 30_000
_COMPONENTS = 256
_LONGEST = 20_000
"""Characters of a text that are read."""


def term_features(texts: Sequence[str], seed: int = 0) -> Tensor:
    """Return features of texts, float32 ``[N, at most 256]``, each row of length 1.

    Words, pairs of words, and pieces of 2 to 5 characters (which also serve languages without blanks) are weighted by
    tf-idf; a truncated singular value decomposition reduces them (Deerwester et al. 1990).

    Args:
        texts: decoded.
        seed: of the decomposition.
    """
    from scipy.sparse import hstack
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    cut = [text[:_LONGEST] for text in texts]
    shared: dict[str, Any] = {"sublinear_tf": True, "min_df": 2 if len(cut) > 20 else 1, "max_features": _MOST_TERMS}
    parts = []
    for analyzer, sizes, pattern in (("word", (1, 2), r"(?u)\b\w+\b|[^\w\s]"), ("char_wb", (2, 5), None)):
        vectorizer = TfidfVectorizer(analyzer=analyzer, ngram_range=sizes, token_pattern=pattern, **shared)
        try:
            parts.append(vectorizer.fit_transform(cut))
        except ValueError:  # no term occurs twice
            continue
    if not parts:
        return torch.zeros(len(cut), 1)
    terms = hstack(parts).tocsr()
    count = min(_COMPONENTS, terms.shape[1] - 1, len(cut) - 1)
    if count < 1:
        return torch.zeros(len(cut), 1)
    rows = torch.from_numpy(TruncatedSVD(count, random_state=seed).fit_transform(terms)).float()
    normalised: Tensor = torch.nn.functional.normalize(rows, dim=1) * rows.shape[1] ** 0.5
    return normalised
