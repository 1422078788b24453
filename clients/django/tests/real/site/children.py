"""What a child process of the site begins with: nothing is set up yet."""


def count_off(sender: str, each: int) -> None:
    import django

    django.setup()
    from . import acts

    acts.count_off(sender, each)
