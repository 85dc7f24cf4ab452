"""Innermost loops of an AArch64 listing, and spills of vector registers."""

from handglass.targets.codegen.llvm.assembly import hot_loops, innermost_loops

NEST = """
	.p2align	4
outer:
	mov	x8, xzr
.LBB0_1:                                // =>This Loop Header
	ldr	q0, [x1], #16
.LBB0_2:
	ldp	q1, q2, [x2]            // 16-byte folded reload
	.loc	1 2 3
	sdot	v3.4s, v1.16b, v0.4b[0]
	subs	x8, x8, #1
	b.ne	.LBB0_2
	str	q3, [sp, #16]
	cbnz	x9, .LBB0_1
	b	.LBB0_4
.LBB0_3:
	fmla	v1.4s, v2.4s, v3.4s
	tbnz	w9, #3, .LBB0_3
.LBB0_4:
	ret
"""


def test_only_the_innermost_loops() -> None:
    assert [loop.label for loop in innermost_loops(NEST)] == [".LBB0_2", ".LBB0_3"]
    first = innermost_loops(NEST)[0]
    assert first.instructions == (
        "ldp q1, q2, [x2]",
        "sdot v3.4s, v1.16b, v0.4b[0]",
        "subs x8, x8, #1",
        "b.ne .LBB0_2",
    )
    assert (first.count("sdot"), first.count("s")) == (1, 0)


def test_hot_loops_have_the_instruction_most_of_it_first() -> None:
    twice = NEST.replace("\tfmla", "\tsdot v5.4s, v1.16b, v0.4b[0]\n\tsdot", 1)
    assert [loop.label for loop in hot_loops(twice, "sdot")] == [".LBB0_3", ".LBB0_2"]
    assert not hot_loops(NEST, "smmla")


def test_forward_branches_make_no_loop() -> None:
    assert not innermost_loops("a:\n\tcbz x0, .L1\n\tadd x0, x0, #1\n.L1:\n\tret\n")


def test_vector_stack_traffic() -> None:
    spills = ["str q0, [sp, #32]", "ldp q1, q2, [sp]", "stur d9, [x29, #-16]", "ldr s1, [sp, #4]"]
    harmless = ["ldr x0, [sp, #8]", "str w1, [sp]", "ldr q0, [x1]", "stp x29, x30, [sp, #-16]!"]
    text = "a:\n\t" + "\n\t".join([*spills, *harmless, "b.ne a"])
    (loop,) = innermost_loops(text)
    assert loop.vector_stack_traffic == spills
