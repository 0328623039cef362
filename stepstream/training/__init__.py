"""The model: data, network, training, quantization and evaluation (extra ``train``)."""
