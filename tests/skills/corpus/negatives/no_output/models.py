from harnessapi import SkillInput


class Input(SkillInput):
    text: str
