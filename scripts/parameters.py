"""PEFT-SER's Table IV, trainable parameters by encoder and method, beside those that train here. Needs no weights."""

import argparse

from hf_ser.papers import parameters_beside_table_iv


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    print("| encoder | method | trainable parameters | in millions | PEFT-SER, Table IV |\n|---|---|---|---|---|")
    for encoder, method, parameters, paper in parameters_beside_table_iv():
        print(f"| {encoder} | {method} | {parameters:,} | {parameters / 1e6:.2f} M | {paper or ''} |")
    print(
        "\nhead: the downstream model alone; it trains with all other methods, too, and is not counted in their lines.\n"
        "lora_ff: the paper's text has LoRA on both matrices of the feed-forward; its figures are those of one."
    )


if __name__ == "__main__":
    main()
