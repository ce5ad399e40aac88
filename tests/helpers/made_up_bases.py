"""Base models that a stranger would name: each predicts a token from the one before, through a layer of its own."""

from torch import nn


class Plain(nn.Module):
    def __init__(self, vocab_size, layer=None):
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, 8)
        self.layer = layer or nn.Identity()
        self.head = nn.Linear(8, vocab_size)

    def forward(self, tokens):
        return self.head(self.layer(self.embedding(tokens)))


class Dropped(Plain):
    def __init__(self, vocab_size):
        super().__init__(vocab_size, nn.Dropout(0.5))


class AlwaysDropped(Plain):
    def forward(self, tokens):
        return self.head(nn.functional.dropout(self.embedding(tokens), 0.5))


class Recurrent(Plain):
    def __init__(self, vocab_size):
        super().__init__(vocab_size)
        self.recurrence = nn.GRU(8, 8, batch_first=True)

    def forward(self, tokens):
        return self.head(self.recurrence(self.embedding(tokens))[0])


class Normalized(Plain):
    def __init__(self, vocab_size):
        super().__init__(vocab_size, nn.Sequential(nn.Flatten(0, 1), nn.BatchNorm1d(8)))
