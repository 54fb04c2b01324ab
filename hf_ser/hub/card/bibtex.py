"""BibTeX of the papers that a model card cites beside those of its corpora."""

#: HuBERT-SER is at hand as an anonymous submission, without authors or a year.
HUBERT_SER = """@misc{hubertser,
  title = {Efficient Fine-Tuning Approaches on {HuBERT} for Speech Emotion Recognition on Multiple Labels},
  author = {{Anonymous}},
  note = {Anonymous ACL submission}
}"""

PEFT_SER = """@inproceedings{feng2023peftser,
  title = {{PEFT-SER}: On the Use of Parameter Efficient Transfer Learning Approaches For Speech Emotion Recognition
           Using Pre-trained Speech Models},
  author = {Feng, Tiantian and Narayanan, Shrikanth},
  booktitle = {2023 11th International Conference on Affective Computing and Intelligent Interaction (ACII)},
  pages = {1--8},
  year = {2023},
  organization = {IEEE}
}"""

LORA = """@misc{hu2021lora,
  title = {{LoRA}: Low-Rank Adaptation of Large Language Models},
  author = {Hu, Edward J. and Shen, Yelong and Wallis, Phillip and Allen-Zhu, Zeyuan and Li, Yuanzhi and Wang, Shean and
            Wang, Lu and Chen, Weizhu},
  year = {2021},
  eprint = {2106.09685},
  archivePrefix = {arXiv}
}"""

#: The encoders, by the `model_type` of their configuration.
ENCODERS = {
    "hubert": """@article{hsu2021hubert,
  title = {{HuBERT}: Self-Supervised Speech Representation Learning by Masked Prediction of Hidden Units},
  author = {Hsu, Wei-Ning and Bolte, Benjamin and Tsai, Yao-Hung Hubert and Lakhotia, Kushal and Salakhutdinov, Ruslan and
            Mohamed, Abdelrahman},
  journal = {IEEE/ACM Transactions on Audio, Speech, and Language Processing},
  volume = {29},
  pages = {3451--3460},
  year = {2021}
}""",
    "wav2vec2": """@inproceedings{baevski2020wav2vec2,
  title = {wav2vec 2.0: A Framework for Self-Supervised Learning of Speech Representations},
  author = {Baevski, Alexei and Zhou, Yuhao and Mohamed, Abdelrahman and Auli, Michael},
  booktitle = {Advances in Neural Information Processing Systems},
  volume = {33},
  pages = {12449--12460},
  year = {2020}
}""",
    "wavlm": """@article{chen2022wavlm,
  title = {{WavLM}: Large-Scale Self-Supervised Pre-Training for Full Stack Speech Processing},
  author = {Chen, Sanyuan and Wang, Chengyi and Chen, Zhengyang and Wu, Yu and Liu, Shujie and Chen, Zhuo and Li, Jinyu and
            Kanda, Naoyuki and Yoshioka, Takuya and Xiao, Xiong and others},
  journal = {IEEE Journal of Selected Topics in Signal Processing},
  volume = {16},
  number = {6},
  pages = {1505--1518},
  year = {2022}
}""",
}
