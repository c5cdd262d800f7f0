import weakref

import pytest
import torch
from programs import PROGRAMS, hard_inputs

from fixedpoint.program import INPUT
from fixedpoint.program.integer import IntegerEvaluator


def test_run_gives_each_tensor_in_order_and_drops_it_after_its_last_use():
    program = PROGRAMS["network"]
    names = [op.name for op in program.ops]
    references, logits = {}, None
    for i, (name, value) in enumerate(IntegerEvaluator(program).run(torch.zeros(1, 3, 32, 32, dtype=torch.int8))):
        assert name == names[i]
        references[name], logits = weakref.ref(value), value
        needed = {name, *(source for op in program.ops[i:] for source in op.inputs)}
        assert {n for n, reference in references.items() if reference() is not None} <= needed
    assert torch.equal(logits, IntegerEvaluator(program).logits(torch.zeros(1, 3, 32, 32, dtype=torch.int8)))


@pytest.mark.parametrize("name", ["network", "network_se", "add"])
def test_a_run_can_be_resumed_anywhere(name):
    program = PROGRAMS[name]
    evaluator, x = IntegerEvaluator(program), torch.from_numpy(hard_inputs(program, 1)).float()
    expected = dict(evaluator.resume({INPUT: x}, program.ops))
    for count in range(len(program.ops) + 1):
        values = {INPUT: x}
        before = dict(evaluator.resume(values, program.ops[:count]))
        computed = {INPUT, *(op.name for op in program.ops[:count])}
        read = {source for op in program.ops[count:] for source in op.inputs}
        assert values.keys() == (computed & read) | ({program.output} & computed)
        after = dict(evaluator.resume(values, program.ops[count:]))
        assert [*before, *after] == [*expected]
        assert all(torch.equal(value, expected[tensor]) for tensor, value in (before | after).items())
