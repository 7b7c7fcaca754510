"""Build logs with tactics: the wording of full TensorRT, with made-up names and numbers."""

from __future__ import annotations

MODERN = """\
[I] Local timing cache in use. Profiling results in this builder pass will not be stored.
[V] =============== Computing costs for /conv (a)/Conv + /relu/Relu
[V] *************** Autotuning format combination: Float(150,50,5,1) -> Float(190,30,5,1) ***************
[V] --------------- Timing Runner: /conv (a)/Conv + /relu/Relu (CaskConvolution[0x80000009])
[V] Tactic Name: kernel_wide Tactic: 0x00000000000000aa Time: 0.0521752
[V] Tactic Name: kernel_small Tactic: 0x00000000000000bb Time: 0.0413463
[V] /conv (a)/Conv + /relu/Relu (CaskConvolution[0x80000009]) profiling completed in 0.08 seconds. Fastest Tactic: 0x00000000000000bb Time: 0.0413463
[V] --------------- Timing Runner: /conv (a)/Conv + /relu/Relu (CudnnConvolution[0x80000000])
[V] Tactic: 0x0000000000000001 Time: 0.091
[V] >>>>>>>>>>>>>>> Chose Runner Type: CaskConvolution Tactic: 0x00000000000000bb
[V] *************** Autotuning format combination: Half(150,1,6,3) -> Half(190,1,35,6) ***************
[V] --------------- Timing Runner: /conv (a)/Conv + /relu/Relu (CaskConvolution[0x80000009])
[V] Tactic Name: kernel_half Tactic: 0x00000000000000cc Time: 1.9e-02
[V] Skipping CaskFlattenConvolution: No valid tactics for /conv (a)/Conv + /relu/Relu
[V] >>>>>>>>>>>>>>> Chose Runner Type: CaskConvolution Tactic: 0x00000000000000cc
[V] =============== Computing costs for /gather
[V] *************** Autotuning format combination: Float(3,1), Int32(5,1) -> Float(15,3,1) ***************
[V] --------------- Timing Runner: /gather (Gather[0x80000005])
[V] Tactic: 0x0000000000000001 Time: 0.27
[V] Tactic: 0x0000000000000007 Time: 0.007
[V] >>>>>>>>>>>>>>> Chose Runner Type: Gather Tactic: 0x0000000000000007
[V] Layers:
Name: /conv (a)/Conv + /relu/Relu, LayerType: CaskConvolution, Inputs: [], TacticName: kernel_small, TacticValue: 0x00000000000000bb, StreamId: 0, Metadata:
"""


OLD = """\
[TensorRT] VERBOSE: *************** Autotuning format combination: Float(1,56) -> Float(1,60) ***************
[TensorRT] VERBOSE: conv1 (scudnn) Set Tactic Name: old_kernel Tactic: 12
[TensorRT] VERBOSE: --------------- Timing Runner: conv1 (CaskConvolution)
[TensorRT] VERBOSE: Tactic: 12 time 0.020576
[TensorRT] VERBOSE: Tactic: -9 Time: 0.016768
[TensorRT] VERBOSE: Fastest Tactic: -9 Time: 0.016768
[TensorRT] VERBOSE: >>>>>>>>>>>>>>> Chose Runner Type: CaskConvolution Tactic: -9
"""
