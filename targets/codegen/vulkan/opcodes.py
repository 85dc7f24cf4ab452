"""SPIR-V opcodes and enumerations by name.

Source: SPIR-V specification 1.6 (unified1/spirv.core.grammar.json) and GLSL.std.450.
"""

from __future__ import annotations

MAGIC = 0x07230203
VERSION_1_3 = 0x00010300  # Vulkan 1.1: accepted by upstream's runtime and phones since 2019
VERSION_1_6 = 0x00010600  # Vulkan 1.3: cooperative matrices


class Op:
    """Opcodes, named as in the specification without "Op"."""

    Undef = 1
    Name = 5
    MemberName = 6
    Extension = 10
    ExtInstImport = 11
    ExtInst = 12
    MemoryModel = 14
    EntryPoint = 15
    ExecutionMode = 16
    Capability = 17
    TypeVoid = 19
    TypeBool = 20
    TypeInt = 21
    TypeFloat = 22
    TypeVector = 23
    TypeArray = 28
    TypeRuntimeArray = 29
    TypeStruct = 30
    TypePointer = 32
    TypeFunction = 33
    ConstantTrue = 41
    ConstantFalse = 42
    Constant = 43
    ConstantComposite = 44
    ConstantNull = 46
    Function = 54
    FunctionEnd = 56
    Variable = 59
    Load = 61
    Store = 62
    AccessChain = 65
    Decorate = 71
    MemberDecorate = 72
    CopyObject = 83
    VectorShuffle = 79
    CompositeConstruct = 80
    CompositeExtract = 81
    ConvertFToU = 109
    ConvertFToS = 110
    ConvertSToF = 111
    ConvertUToF = 112
    UConvert = 113
    SConvert = 114
    FConvert = 115
    Bitcast = 124
    SNegate = 126
    FNegate = 127
    IAdd = 128
    FAdd = 129
    ISub = 130
    FSub = 131
    IMul = 132
    FMul = 133
    UDiv = 134
    SDiv = 135
    FDiv = 136
    UMod = 137
    IsNan = 156
    IsInf = 157
    LogicalEqual = 164
    LogicalNotEqual = 165
    LogicalOr = 166
    LogicalAnd = 167
    LogicalNot = 168
    Select = 169
    IEqual = 170
    INotEqual = 171
    UGreaterThan = 172
    SGreaterThan = 173
    UGreaterThanEqual = 174
    SGreaterThanEqual = 175
    ULessThan = 176
    SLessThan = 177
    ULessThanEqual = 178
    SLessThanEqual = 179
    FOrdEqual = 180
    FUnordNotEqual = 183
    FOrdLessThan = 184
    FOrdGreaterThan = 186
    FOrdLessThanEqual = 188
    FOrdGreaterThanEqual = 190
    ShiftRightLogical = 194
    ShiftRightArithmetic = 195
    ShiftLeftLogical = 196
    BitwiseOr = 197
    BitwiseXor = 198
    BitwiseAnd = 199
    Not = 200
    BitFieldInsert = 201
    BitFieldSExtract = 202
    BitFieldUExtract = 203
    BitCount = 205
    ControlBarrier = 224
    Phi = 245
    LoopMerge = 246
    SelectionMerge = 247
    Label = 248
    Branch = 249
    BranchConditional = 250
    Return = 253
    GroupNonUniformElect = 333
    GroupNonUniformShuffle = 345
    GroupNonUniformShuffleXor = 346
    GroupNonUniformIAdd = 349
    GroupNonUniformFAdd = 350
    GroupNonUniformSMin = 353
    GroupNonUniformUMin = 354
    GroupNonUniformFMin = 355
    GroupNonUniformSMax = 356
    GroupNonUniformUMax = 357
    GroupNonUniformFMax = 358
    ModuleProcessed = 330
    SDot = 4450
    UDot = 4451
    SUDot = 4452
    TypeCooperativeMatrixKHR = 4456
    CooperativeMatrixLoadKHR = 4457
    CooperativeMatrixStoreKHR = 4458
    CooperativeMatrixMulAddKHR = 4459
    CooperativeMatrixLengthKHR = 4460


class Capability:
    """Capabilities of a device; `capabilities.py` maps them to target attributes."""

    Shader = 1
    Float16 = 9
    Float64 = 10
    Int64 = 11
    Int16 = 22
    Int8 = 39
    GroupNonUniform = 61
    GroupNonUniformArithmetic = 63
    GroupNonUniformShuffle = 65
    StorageBuffer16BitAccess = 4433
    StorageBuffer8BitAccess = 4448
    VulkanMemoryModel = 5345
    DotProductInput4x8BitPacked = 6018
    DotProduct = 6019
    CooperativeMatrixKHR = 6022


class StorageClass:
    """Storage classes of pointers."""

    Input = 1
    Uniform = 2
    Workgroup = 4
    Function = 7
    PushConstant = 9
    StorageBuffer = 12


class Decoration:
    """Decorations of variables, types and members."""

    Block = 2
    ArrayStride = 6
    BuiltIn = 11
    Restrict = 19
    Aliased = 20
    NonWritable = 24
    Binding = 33
    DescriptorSet = 34
    Offset = 35


class BuiltIn:
    """Built-in variables."""

    WorkgroupId = 26
    LocalInvocationId = 27
    SubgroupSize = 36
    NumSubgroups = 38
    SubgroupId = 40
    SubgroupLocalInvocationId = 41


class Glsl:
    """Instructions of the extended set GLSL.std.450."""

    Trunc = 3
    FAbs = 4
    SAbs = 5
    FSign = 6
    Floor = 8
    Ceil = 9
    RoundEven = 2
    Sin = 13
    Cos = 14
    Tan = 15
    Asin = 16
    Acos = 17
    Atan = 18
    Sinh = 19
    Cosh = 20
    Tanh = 21
    Asinh = 22
    Acosh = 23
    Atanh = 24
    Atan2 = 25
    Pow = 26
    Exp = 27
    Log = 28
    Exp2 = 29
    Log2 = 30
    Sqrt = 31
    InverseSqrt = 32
    FMin = 37
    UMin = 38
    SMin = 39
    FMax = 40
    UMax = 41
    SMax = 42
    FClamp = 43
    Fma = 50
    Ldexp = 53
    FindUMsb = 75


GLSL_STD_450 = "GLSL.std.450"

ADDRESSING_LOGICAL = 0
MEMORY_MODEL_GLSL450 = 1
MEMORY_MODEL_VULKAN = 3
EXECUTION_MODEL_GL_COMPUTE = 5
EXECUTION_MODE_LOCAL_SIZE = 17
SCOPE_WORKGROUP = 2
SCOPE_SUBGROUP = 3
GROUP_OPERATION_REDUCE = 0
LOOP_CONTROL_NONE = 0
LOOP_CONTROL_UNROLL = 1
SELECTION_CONTROL_NONE = 0
FUNCTION_CONTROL_NONE = 0
PACKED_VECTOR_4X8_BIT = 0

SEMANTICS_WORKGROUP_ACQUIRE_RELEASE = 0x108  # AcquireRelease | WorkgroupMemory
# ... | MakeAvailable | MakeVisible, which the Vulkan memory model does not imply.
SEMANTICS_WORKGROUP_VULKAN = 0x6108

MATRIX_ROW_MAJOR = 0
MATRIX_USES = {"wmma.matrix_a": 0, "wmma.matrix_b": 1, "wmma.accumulator": 2}
# MatrixA/B/C/ResultSignedComponents
MATRIX_SIGNED_OPERANDS = 0xF
MEMORY_NON_PRIVATE_POINTER = 0x20
