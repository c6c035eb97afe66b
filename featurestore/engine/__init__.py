"""The only place that runs a feature.

Imports `model` and `errors`; knows no store, no clock, no transport.

The law: **a row's values have the same bits whatever rows stand beside it.** One row of a request,
a batch of a thousand and a training set of millions give the same number.
"""
