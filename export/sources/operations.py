"""What a model's file may name: arithmetic on tensors, and nothing that touches anything else.

These are lists of what is allowed, not of what is forbidden: an operation that is not here is refused, whether it is
harmful or only unknown.
"""

#: Functions of the tf namespace that Keras 2 stores by name (TFOpLambda).
KERAS_FUNCTIONS = frozenset(
    """
    __operators__.add __operators__.getitem __operators__.neg abs add cast clip_by_norm clip_by_value concat
    convert_to_tensor cumsum divide einsum exp expand_dims eye fill floor gather gather_nd identity linalg.matmul
    math.abs math.add math.add_n math.argmax math.ceil math.cos math.cumsum math.divide math.divide_no_nan
    math.equal math.erf math.exp math.floor math.floordiv math.floormod math.greater math.greater_equal
    math.l2_normalize math.less math.less_equal math.log math.log1p math.log_softmax math.logical_and
    math.logical_not math.logical_or math.maximum math.minimum math.mod math.multiply math.multiply_no_nan
    math.negative math.not_equal math.pow math.reciprocal math.reduce_max math.reduce_mean math.reduce_min
    math.reduce_prod math.reduce_std math.reduce_sum math.reduce_variance math.reduce_logsumexp math.round
    math.rsqrt math.scalar_mul math.sigmoid math.sign math.sin math.softmax math.softplus math.sqrt math.square
    math.squared_difference math.subtract math.tanh math.tensordot math.top_k math.truediv matmul maximum minimum
    multiply nn.avg_pool nn.avg_pool2d nn.batch_normalization nn.bias_add nn.conv2d nn.crelu nn.depthwise_conv2d
    nn.elu nn.gelu nn.l2_normalize nn.leaky_relu nn.local_response_normalization nn.log_softmax nn.max_pool
    nn.max_pool2d nn.moments nn.relu nn.relu6 nn.selu nn.sigmoid nn.silu nn.softmax nn.softplus nn.softsign nn.swish
    nn.tanh nn.depth_to_space nn.space_to_depth one_hot ones ones_like pad range rank reduce_max reduce_mean
    reduce_min reduce_prod reduce_sum repeat reshape reverse round shape sigmoid slice split sqrt square squeeze
    stack strided_slice subtract tanh tensordot tile transpose truediv unstack where zeros zeros_like
    image.central_crop image.convert_image_dtype image.crop_to_bounding_box image.flip_left_right
    image.grayscale_to_rgb image.per_image_standardization image.resize image.resize_with_crop_or_pad
    image.resize_with_pad image.rgb_to_grayscale image.rgb_to_hsv image.hsv_to_rgb compat.v1.shape
    compat.v1.transpose compat.v1.gather compat.v1.squeeze compat.v1.nn.softmax compat.v1.image.resize
    compat.v1.image.resize_bilinear keras.backend.reshape
    """.split()  # noqa: SIM905
)

#: Classes that the configuration of a Keras file may name: layers, and what belongs to them.
KERAS_CLASSES = frozenset(
    """
    Activation ActivityRegularization AdaptiveAveragePooling2D AdaptiveMaxPooling2D Add AdditiveAttention
    AlphaDropout Attention AugMix AutoContrast Average AveragePooling1D AveragePooling2D AveragePooling3D
    BatchNormalization BatchNormalizationV1 BatchNormalizationV2 Bidirectional CenterCrop Concatenate Conv1D
    Conv1DTranspose Conv2D Conv2DTranspose Conv3D Conv3DTranspose ConvLSTM2D Cropping1D Cropping2D Cropping3D CutMix
    Dense DepthwiseConv1D DepthwiseConv2D Dot Dropout ELU EinsumDense Embedding Equalization Flatten GRU GRUCell
    GaussianDropout GaussianNoise GlobalAveragePooling1D GlobalAveragePooling2D GlobalAveragePooling3D
    GlobalMaxPooling1D GlobalMaxPooling2D GlobalMaxPooling3D GroupNormalization GroupQueryAttention Identity
    InputLayer LSTM LSTMCell LayerNormalization LeakyReLU LocallyConnected1D LocallyConnected2D Masking MaxPooling1D
    MaxPooling2D MaxPooling3D Maximum Minimum MixUp MultiHeadAttention Multiply Normalization PReLU Permute Pipeline
    RMSNormalization RNN RandAugment RandomBrightness RandomColorDegeneration RandomColorJitter RandomContrast
    RandomCrop RandomElasticTransform RandomErasing RandomFlip RandomGaussianBlur RandomGrayscale RandomHeight
    RandomHue RandomInvert RandomPerspective RandomPosterization RandomRotation RandomSaturation RandomSharpness
    RandomShear RandomTranslation RandomWidth RandomZoom ReLU RepeatVector Rescaling Reshape Resizing
    SeparableConv1D SeparableConv2D SeparableConvolution2D SimpleRNN SimpleRNNCell Softmax Solarization
    SpatialDropout1D SpatialDropout2D SpatialDropout3D SpectralNormalization StackedRNNCells Subtract
    ThresholdedReLU TimeDistributed UnitNormalization UpSampling1D UpSampling2D UpSampling3D Wrapper ZeroPadding1D
    ZeroPadding2D ZeroPadding3D Functional Model Sequential SlicingOpLambda Constant GlorotNormal GlorotUniform
    HeNormal HeUniform IdentityInitializer LecunNormal LecunUniform Ones Orthogonal OrthogonalInitializer
    RandomNormal RandomUniform TruncatedNormal VarianceScaling Zeros L1 L1L2 L2 OrthogonalRegularizer MaxNorm
    MinMaxNorm NonNeg RadialConstraint UnitNorm DTypePolicy DTypePolicyMap FloatDTypePolicy Policy PolicyV1
    TensorShape __ellipsis__ __keras_tensor__ __numpy__ __slice__ __tensor__ __tuple__ slice CustomScaleLayer
    Custom>CustomScaleLayer LayerScale StochasticDepth
    """.split()  # noqa: SIM905  # a list of so many words is easier to read as text
)

#: Functions of keras.activations.
ACTIVATIONS = frozenset(
    """
    celu elu exponential gelu glu hard_shrink hard_sigmoid hard_silu hard_swish hard_tanh leaky_relu linear
    log_sigmoid log_softmax mish relu relu6 selu sigmoid silu soft_shrink softmax softplus softsign sparse_plus
    sparse_sigmoid sparsemax squareplus swish tanh tanh_shrink threshold
    """.split()  # noqa: SIM905
)

#: Operations of keras.ops that take a function.
CONTROL_FLOW = frozenset(
    "AssociativeScan Cond CustomGradient ForiLoop Map Scan Switch VectorizedMap WhileLoop".split()  # noqa: SIM905
)

#: Operations of a graph, as a SavedModel stores them.
ALLOWED = frozenset(
    """
    Abs Add AddN AddV2 All Any ArgMax ArgMin AvgPool BatchMatMul BatchMatMulV2 BatchMatMulV3
    BatchNormWithGlobalNormalization BatchToSpaceND BiasAdd Bitcast BroadcastArgs BroadcastTo Bucketize Cast Ceil
    ClipByValue Concat ConcatV2 Const Conv2D Conv3D Cos CropAndResize Cumprod Cumsum DepthToSpace
    DepthwiseConv2dNative Div DivNoNan Einsum Elu EnsureShape Equal Erf Erfc Exp ExpandDims Expm1 Fill Floor
    FloorDiv FloorMod FusedBatchNorm FusedBatchNormV2 FusedBatchNormV3 Gather GatherNd GatherV2 Greater GreaterEqual
    HSVToRGB Identity IdentityN If ImageProjectiveTransformV2 ImageProjectiveTransformV3 InvertPermutation IsFinite
    IsInf IsNan L2Loss LRN LeakyRelu Less LessEqual LinSpace Log Log1p LogSoftmax LogicalAnd LogicalNot LogicalOr
    MatMul Max MaxPool MaxPoolV2 Maximum Mean Min Minimum MirrorPad Mod Mul MulNoNan Multinomial Neg NoOp NotEqual
    OneHot OnesLike Pack Pad PadV2 PartitionedCall Placeholder PlaceholderWithDefault Pow PreventGradient Prod
    RGBToHSV RandomStandardNormal RandomUniform RandomUniformInt Range Rank ReadVariableOp RealDiv Reciprocal Relu
    Relu6 Reshape ResizeArea ResizeBicubic ResizeBilinear ResizeNearestNeighbor ResourceGather Reverse ReverseV2
    Rint Round Rsqrt ScaleAndTranslate Select SelectV2 Selu Shape ShapeN Sigmoid Sign Sin Size Slice Snapshot
    Softmax Softplus Softsign SpaceToBatchND SpaceToDepth Split SplitV Sqrt Square SquaredDifference Squeeze
    StatefulPartitionedCall StatelessIf StatelessRandomGetAlg StatelessRandomGetKeyCounter StatelessRandomNormalV2
    StatelessRandomUniformFullIntV2 StatelessRandomUniformIntV2 StatelessRandomUniformV2 StatelessWhile StopGradient
    StridedSlice Sub Sum Switch Merge Tan Tanh TensorListFromTensor TensorListGetItem TensorListReserve
    TensorListSetItem TensorListStack Tile TopKV2 Transpose TruncateDiv Unpack Unstack VarHandleOp
    VarIsInitializedOp VariableV2 Where While ZerosLike XlaDynamicSlice XlaConvV2 Enter Exit NextIteration LoopCond
    ControlTrigger GuaranteeConst DataFormatDimMap DataFormatVecPermute AdjustContrastv2 AdjustHue AdjustSaturation
    QuantizeV2 Dequantize FakeQuantWithMinMaxArgs FakeQuantWithMinMaxVars FakeQuantWithMinMaxVarsPerChannel
    """.split()  # noqa: SIM905
)

#: Further operations of the functions by which a SavedModel would be trained on, saved or restored. They are never run.
NEVER_RUN = frozenset(
    """
    Assign AssignAddVariableOp AssignSubVariableOp AssignVariableOp Bitcast DisableCopyOnRead MergeV2Checkpoints
    RestoreV2 RngReadAndSkip SaveV2 ShardedFilename StatefulStandardNormalV2 StatefulUniform
    StatelessRandomGetKeyCounterAlg StaticRegexFullMatch StringJoin
    """.split()  # noqa: SIM905
)

#: What layers do that are at work in training only: random numbers, and variables that change.
TRAINING = frozenset(
    """
    AssignAddVariableOp AssignSubVariableOp AssignVariableOp RandomStandardNormal RandomUniform RngReadAndSkip
    StatefulStandardNormalV2 StatefulUniform StatelessRandomGetAlg StatelessRandomGetKeyCounter
    StatelessRandomGetKeyCounterAlg StatelessRandomNormalV2 StatelessRandomUniformV2
    """.split()  # noqa: SIM905
)
