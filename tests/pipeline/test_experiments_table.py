from pipeline.experiments import from_table


def test_numbers_of_the_headline_and_the_parameters_that_differ():
    shared = {"typ": "baseline", "Created": "", "seed": "0", "artifacts/code/pack.txt": "abc", "fixedpoint": "def"}
    rows = [
        shared
        | {"Experiment": "", "rev": "workspace", "int_top1": "91.6", "ram": "35040", "lr": "0.1", "qat.lr": "0.01"},
        shared | {"Experiment": "hot", "rev": "1a2b3c4", "int_top1": "", "ram": "", "lr": "0.2", "qat.lr": ""},
    ]
    assert from_table(rows) == [
        ("workspace", {"int_top1": 91.6, "ram": 35040.0}, {"lr": "0.1", "qat.lr": "0.01"}),
        ("hot", {}, {"lr": "0.2"}),
    ]
    assert from_table([]) == []
