from experiments.figures.layer_names import short_names


def test_a_layer_is_named_by_its_block_and_its_place_in_it() -> None:
    layers = [
        "encoder.layers.encoder_layer_3.self_attention.q",
        "encoder.layers.encoder_layer_3.self_attention.out_proj",
        "encoder.layers.encoder_layer_11.mlp.0",
        "encoder.layers.encoder_layer_11.mlp.3",
        "heads.head",
    ]
    assert short_names(layers) == ["3 q", "3 out", "11 mlp 1", "11 mlp 2", "head"]
    assert short_names(["blocks.3.self_attention.v", "blocks.10.mlp.3"]) == ["3 v", "10 mlp 2"]
    assert short_names(["layers.0.mlp.fc1", "layers.0.mlp.fc2"]) == ["0 mlp 1", "0 mlp 2"]
    assert short_names(["hidden.0", "hidden.1", "conv1"]) == ["0", "1", "conv1"]


def test_names_that_two_layers_would_share_stay_long() -> None:
    layers = ["layer1.0.conv1", "layer2.0.conv1"]
    assert short_names(layers) == layers
