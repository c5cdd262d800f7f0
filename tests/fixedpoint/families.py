"""One network of each family of timm: the smallest that it has, with random weights, on small pictures.

docs/families.md is their table. `make test-networks NETWORKS=all` writes it, in most of an hour, NETWORKS=resnet18 one
row.
"""

import re
import warnings
from dataclasses import astuple, dataclass
from pathlib import Path

import torch
from every_form import compare_every_form
from networks import random_network, real_images

from fixedpoint.capture.fold import fold
from fixedpoint.capture.network import capture
from fixedpoint.errors import QuantizationError
from fixedpoint.program import EXACT8, PORTABLE
from fixedpoint.program.portable import lower
from fixedpoint.quantize.calibrate import calibrate
from fixedpoint.quantize.correct import correct_biases

PAGE = Path(__file__).parents[2] / "docs" / "families.md"
HEAD = """\
# Families of networks

One network of each family of timm, the smallest, with random weights, BatchNorm statistics of real images and 10
classes, on small images. The table has the forms in which every tensor is that of the integer model, bit for bit: QAT,
the integer program in NumPy, the three integer ONNX files in ONNX Runtime, C, and LiteRT, which needs portable
arithmetic. Networks that have nothing that keeps them from portable arithmetic are in it, the others in exact8.

`make test-networks NETWORKS=all` writes this table in most of an hour, `NETWORKS=resnet18,vgg11` some of its rows;
`make inspect NETWORK=resnet18` says within seconds what is true of any network.
"""
TITLES = ("Convolutional", "With attention, or with normalization over features")
COLUMNS = (
    "| family | network | pixels | arithmetic | operations | exact in, or refused because |\n|---|---|---:|---|---|---|"
)

CONVOLUTIONAL: dict[str, tuple[str, int]] = {  # family: network, size
    "ConvMixer": ("convmixer_768_32", 32),
    "CS3Darknet": ("cs3darknet_s", 64),
    "CS3Darknet, focus": ("cs3darknet_focus_s", 64),
    "CS3Darknet, SE": ("cs3sedarknet_l", 32),
    "CS3EdgeNet": ("cs3edgenet_x", 32),
    "CSPDarknet": ("cspdarknet53", 32),
    "CSPNeXt": ("cspnext_tiny", 64),
    "CSPResNet": ("cspresnet50", 32),
    "CSPResNeXt": ("cspresnext50", 32),
    "Darknet": ("darknet17", 32),
    "Darknet, anti-aliased": ("darknetaa53", 32),
    "DenseNet": ("densenet121", 32),
    "DenseNet, blur": ("densenetblur121d", 32),
    "DLA": ("dla46_c", 64),
    "DLA, Res2Net": ("dla60_res2net", 32),
    "DPN": ("dpn48b", 64),
    "DPN, 3x3 stem": ("dpn68", 32),
    "ECA-NFNet": ("eca_nfnet_l0", 32),
    "ECA-ResNet": ("ecaresnet26t", 32),
    "ECA-ResNeXt": ("eca_resnext26ts", 32),
    "ECA-VoVNet": ("eca_vovnet39b", 32),
    "EdgeTPU MobileNet": ("mobilenet_edgetpu_100", 64),
    "EdgeTPU MobileNet V2": ("mobilenet_edgetpu_v2_xs", 64),
    "EfficientNet": ("efficientnet_b0", 64),
    "EfficientNet, blur": ("efficientnet_blur_b0", 32),
    "EfficientNet, CondConv": ("efficientnet_cc_b0_4e", 32),
    "EfficientNet-EdgeTPU": ("efficientnet_es", 64),
    "EfficientNet-H": ("efficientnet_h_b5", 32),
    "EfficientNet-Lite": ("efficientnet_lite0", 32),
    "EfficientNet-Lite, TensorFlow": ("tf_efficientnet_lite0", 33),
    "EfficientNet-X": ("efficientnet_x_b3", 32),
    "EfficientNetV2": ("efficientnetv2_rw_t", 32),
    "EfficientNetV2, global context": ("gc_efficientnetv2_rw_t", 32),
    "EfficientNetV2, TensorFlow": ("tf_efficientnetv2_b0", 33),
    "FasterNet": ("fasternet_t0", 64),
    "FastViT": ("fastvit_t8", 64),
    "FBNet": ("fbnetc_100", 64),
    "FBNetV3": ("fbnetv3_b", 32),
    "GC-ResNet": ("gcresnet33ts", 32),
    "GC-ResNeXt": ("gcresnext26ts", 32),
    "GENet": ("gernet_s", 32),
    "GhostNet": ("ghostnet_050", 64),
    "GhostNetV2": ("ghostnetv2_100", 64),
    "GhostNetV3": ("ghostnetv3_050", 64),
    "HardCoRe-NAS": ("hardcorenas_a", 64),
    "HGNet": ("hgnet_tiny", 32),
    "HGNetV2": ("hgnetv2_b0", 32),
    "HRNet": ("hrnet_w18_small", 32),
    "Inception-ResNet": ("inception_resnet_v2", 96),
    "Inception V3": ("inception_v3", 96),
    "Inception V4": ("inception_v4", 96),
    "LCNet": ("lcnet_035", 64),
    "LCNetV2": ("lcnetv2_small", 64),
    "MixNet": ("mixnet_s", 64),
    "MixNet, TensorFlow": ("tf_mixnet_s", 33),
    "MnasNet": ("mnasnet_small", 64),
    "MobileNetV1": ("mobilenetv1_100", 64),
    "MobileNetV2": ("mobilenetv2_035", 64),
    "MobileNetV3": ("mobilenetv3_small_050", 64),
    "MobileNetV3, TensorFlow": ("tf_mobilenetv3_small_minimal_100", 65),
    "MobileNetV4": ("mobilenetv4_conv_small_035", 64),
    "MobileNetV4, blur": ("mobilenetv4_conv_blur_medium", 32),
    "MobileOne": ("mobileone_s0", 64),
    "NASNet": ("nasnetalarge", 96),
    "NF-RegNet": ("nf_regnet_b0", 64),
    "NF-ResNet": ("nf_resnet26", 32),
    "NFNet": ("test_nfnet", 64),
    "PNASNet": ("pnasnet5large", 96),
    "RegNetV": ("regnetv_040", 32),
    "RegNetX": ("regnetx_002", 64),
    "RegNetY": ("regnety_002", 64),
    "RegNetZ": ("regnetz_005", 32),
    "RegNetZ, ByobNet": ("regnetz_b16", 32),
    "RepGhostNet": ("repghostnet_050", 64),
    "RepVGG": ("repvgg_a0", 32),
    "RepViT": ("repvit_m0_9", 64),
    "Res2Net": ("res2net50_48w_2s", 32),
    "Res2NeXt": ("res2next50", 32),
    "ResNeSt": ("resnest14d", 32),
    "ResNet": ("resnet18", 32),
    "ResNet, anti-aliased": ("resnetaa34d", 32),
    "ResNet, blur": ("resnetblur18", 32),
    "ResNet, CLIP's": ("resnet50_clip_gap", 32),
    "ResNet, deep stem": ("resnet10t", 64),
    "ResNet, Q": ("resnet51q", 32),
    "ResNet-RS": ("resnetrs50", 32),
    "ResNet, tiered stem": ("resnet32ts", 32),
    "ResNetV2": ("resnetv2_18", 32),
    "ResNeXt": ("resnext50_32x4d", 32),
    "ReXNet": ("rexnet_100", 64),
    "ReXNet, rounded": ("rexnetr_100", 32),
    "SelecSLS": ("selecsls42b", 32),
    "SemNasNet": ("semnasnet_050", 64),
    "SENet": ("legacy_seresnet18", 32),
    "SE-ResNet": ("seresnet18", 32),
    "SE-ResNeXt": ("legacy_seresnext26_32x4d", 32),
    "SK-ResNet": ("skresnet18", 32),
    "SPNASNet": ("spnasnet_100", 64),
    "StarNet": ("starnet_s050", 64),
    "TinyNet": ("tinynet_e", 64),
    "TResNet": ("tresnet_m", 32),
    "VarGConvNet": ("vargconvnet_32", 32),
    "VGG": ("vgg11", 32),
    "VGG, BatchNorm": ("vgg11_bn", 32),
    "VoVNet": ("vovnet39a", 32),
    "VoVNet, effective SE": ("ese_vovnet19b_slim_dw", 64),
    "Wide ResNet": ("wide_resnet50_2", 32),
    "Xception": ("legacy_xception", 32),
    "Xception, aligned": ("xception41", 32),
    "Xception, pre-activated": ("xception41p", 32),
}
OTHERS: dict[str, tuple[str, int]] = {  # with attention, or with normalization over features
    "BAT-ResNeXt": ("bat_resnext26ts", 256),
    "BEiT": ("beit_base_patch16_224", 224),
    "BotNet": ("botnet26t_256", 256),
    "CoaT": ("coat_lite_tiny", 224),
    "CoAtNet": ("coatnet_bn_0_rw_224", 224),
    "ConvFormer": ("convformer_s18", 64),
    "ConvNeXt": ("convnext_atto", 64),
    "CPUBone": ("cpubone_nano", 64),
    "CSATv2": ("csatv2", 64),
    "EdgeNeXt": ("edgenext_xx_small", 64),
    "EfficientFormer": ("efficientformer_l1", 224),
    "EfficientNet, GroupNorm": ("efficientnet_b0_gn", 64),
    "EfficientViM": ("efficientvim_m1", 64),
    "EfficientViT": ("efficientvit_b0", 64),
    "EfficientViT, Microsoft's": ("efficientvit_m0", 224),
    "FocalNet": ("focalnet_tiny_srf", 64),
    "InceptionNeXt": ("inception_next_atto", 64),
    "HaloNet": ("halonet26t", 256),
    "LambdaResNet": ("lambda_resnet26t", 256),
    "LeViT": ("levit_128s", 224),
    "LowFormer": ("lowformer_b0", 64),
    "MambaOut": ("test_mambaout", 64),
    "MLP-Mixer": ("mixer_s32_224", 224),
    "MobileViT": ("mobilevit_xxs", 64),
    "PoolFormer": ("poolformer_s12", 64),
    "RDNet": ("rdnet_tiny", 64),
    "ResNet, GroupNorm": ("resnet50_gn", 64),
    "ResNetV2, BiT's": ("resnetv2_50x1_bit", 64),
    "Sequencer": ("sequencer2d_s", 224),
    "SHViT": ("shvit_s1", 64),
    "SwiftFormer": ("swiftformer_xs", 64),
    "Swin": ("swin_tiny_patch4_window7_224", 224),
    "ViT": ("test_vit", 160),
}


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes:
        arithmetic: Empty if the network is refused.
        kinds: The kinds of operations of its program.
        result: The forms that are exact, or why the network is refused.
    """

    family: str
    network: str
    size: str
    arithmetic: str
    kinds: str
    result: str


@torch.no_grad()
def try_family(family, folder):
    """The row of a family. ONNX Runtime's and LiteRT's other modes are compared in test_networks.py."""
    network, size = (CONVOLUTIONAL | OTHERS)[family]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            program = fold(capture(random_network(network, size, None), (3, size, size)))
            arithmetic, x = arithmetic_of(program), real_images(size, 4)[1:3]
            program = correct_biases(calibrate(program, lambda: [x], arithmetic=arithmetic), x)
        except QuantizationError as error:
            return Row(family, network, str(size), "", "", f"refused: {error}".replace("|", "/"))
        forms = compare_every_form(program, x, folder, modes=("off",), kernels=("xnnpack",), threads=(1,))
    kinds = " ".join(sorted({op.kind for op in program.ops}))
    return Row(family, network, str(size), arithmetic, kinds, ", ".join(forms))


def arithmetic_of(program):
    try:
        lower(program)
    except QuantizationError:
        return EXACT8
    return PORTABLE


def read_rows():
    """The rows of docs/families.md by family."""
    lines = PAGE.read_text(encoding="utf-8").splitlines() if PAGE.exists() else []
    cells = [re.split(r" *\| *", line)[1:-1] for line in lines if re.match(r"\| \w", line)]
    return {row[0]: Row(*row) for row in cells if row[0] != "family"}


def write_rows(rows):
    """Write docs/families.md, with the families in the order of this module."""
    parts = [HEAD]
    for title, families in zip(TITLES, (CONVOLUTIONAL, OTHERS), strict=True):
        found = [rows[family] for family in families if family in rows]
        exact = sum(bool(row.arithmetic) for row in found)
        counts = (
            f"{exact} are exact, {len(found) - exact} are refused, {len(families) - len(found)} have not been tried."
        )
        table = "\n".join([COLUMNS, *(f"| {' | '.join(astuple(row))} |" for row in found)])
        parts.append(f"## {title}\n\n{counts}\n\n{table}\n")
    PAGE.write_text("\n".join(parts), encoding="utf-8")
