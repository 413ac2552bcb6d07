"""BibTeX entries of the papers that describe the STS data."""

from __future__ import annotations

STS12 = r"""
@inproceedings{agirre-etal-2012-semeval,
  address = {Montr{\'e}al, Canada},
  author = {Agirre, Eneko and Cer, Daniel and Diab, Mona and Gonzalez-Agirre, Aitor},
  booktitle = {*{SEM} 2012: The First Joint Conference on Lexical and Computational Semantics},
  pages = {385--393},
  publisher = {Association for Computational Linguistics},
  title = {{S}em{E}val-2012 Task 6: A Pilot on Semantic Textual Similarity},
  url = {https://aclanthology.org/S12-1051},
  year = {2012},
}
"""

STS13 = r"""
@inproceedings{agirre-etal-2013-sem,
  address = {Atlanta, Georgia, USA},
  author = {Agirre, Eneko and Cer, Daniel and Diab, Mona and Gonzalez-Agirre, Aitor and Guo, Weiwei},
  booktitle = {Second Joint Conference on Lexical and Computational Semantics (*{SEM}), Volume 1},
  pages = {32--43},
  publisher = {Association for Computational Linguistics},
  title = {*{SEM} 2013 shared task: Semantic Textual Similarity},
  url = {https://aclanthology.org/S13-1004},
  year = {2013},
}
"""

STS14 = r"""
@inproceedings{agirre-etal-2014-semeval,
  address = {Dublin, Ireland},
  author = {Agirre, Eneko and Banea, Carmen and Cardie, Claire and Cer, Daniel and Diab, Mona and
    Gonzalez-Agirre, Aitor and Guo, Weiwei and Mihalcea, Rada and Rigau, German and Wiebe, Janyce},
  booktitle = {Proceedings of the 8th International Workshop on Semantic Evaluation ({S}em{E}val 2014)},
  pages = {81--91},
  publisher = {Association for Computational Linguistics},
  title = {{S}em{E}val-2014 Task 10: Multilingual Semantic Textual Similarity},
  url = {https://aclanthology.org/S14-2010},
  year = {2014},
}
"""

STS15 = r"""
@inproceedings{agirre-etal-2015-semeval,
  address = {Denver, Colorado},
  author = {Agirre, Eneko and Banea, Carmen and Cardie, Claire and Cer, Daniel and Diab, Mona and
    Gonzalez-Agirre, Aitor and Guo, Weiwei and Lopez-Gazpio, I{\~n}igo and Maritxalar, Montse and
    Mihalcea, Rada and Rigau, German and Uria, Larraitz and Wiebe, Janyce},
  booktitle = {Proceedings of the 9th International Workshop on Semantic Evaluation ({S}em{E}val 2015)},
  pages = {252--263},
  publisher = {Association for Computational Linguistics},
  title = {{S}em{E}val-2015 Task 2: Semantic Textual Similarity, {E}nglish, {S}panish and Pilot on Interpretability},
  url = {https://aclanthology.org/S15-2045},
  year = {2015},
}
"""

STS16 = r"""
@inproceedings{agirre-etal-2016-semeval,
  address = {San Diego, California},
  author = {Agirre, Eneko and Banea, Carmen and Cer, Daniel and Diab, Mona and Gonzalez-Agirre, Aitor and
    Mihalcea, Rada and Rigau, German and Wiebe, Janyce},
  booktitle = {Proceedings of the 10th International Workshop on Semantic Evaluation ({S}em{E}val-2016)},
  pages = {497--511},
  publisher = {Association for Computational Linguistics},
  title = {{S}em{E}val-2016 Task 1: Semantic Textual Similarity, Monolingual and Cross-Lingual Evaluation},
  url = {https://aclanthology.org/S16-1081},
  year = {2016},
}
"""

STS_BENCHMARK = r"""
@inproceedings{cer-etal-2017-semeval,
  address = {Vancouver, Canada},
  author = {Cer, Daniel and Diab, Mona and Agirre, Eneko and Lopez-Gazpio, I{\~n}igo and Specia, Lucia},
  booktitle = {Proceedings of the 11th International Workshop on Semantic Evaluation ({S}em{E}val-2017)},
  pages = {1--14},
  publisher = {Association for Computational Linguistics},
  title = {{S}em{E}val-2017 Task 1: Semantic Textual Similarity Multilingual and Crosslingual Focused Evaluation},
  url = {https://aclanthology.org/S17-2001},
  year = {2017},
}
"""

SICK = r"""
@inproceedings{marelli-etal-2014-sick,
  address = {Reykjavik, Iceland},
  author = {Marelli, Marco and Menini, Stefano and Baroni, Marco and Bentivogli, Luisa and Bernardi, Raffaella and
    Zamparelli, Roberto},
  booktitle = {Proceedings of the Ninth International Conference on Language Resources and Evaluation ({LREC}'14)},
  pages = {216--223},
  publisher = {European Language Resources Association (ELRA)},
  title = {A {SICK} cure for the evaluation of compositional distributional semantic models},
  url = {https://aclanthology.org/L14-1314},
  year = {2014},
}
"""

DINO = r"""
@inproceedings{schick-schutze-2021-generating,
  author = {Schick, Timo and Sch{\"u}tze, Hinrich},
  booktitle = {Proceedings of the 2021 Conference on Empirical Methods in Natural Language Processing},
  publisher = {Association for Computational Linguistics},
  title = {Generating Datasets with Pretrained Language Models},
  url = {https://arxiv.org/abs/2104.07540},
  year = {2021},
}
"""
