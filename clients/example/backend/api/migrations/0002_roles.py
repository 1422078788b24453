"""The two groups that are the roles of the site."""

from typing import Any

from django.db import migrations


def make(apps: Any, schema_editor: Any) -> None:
    group = apps.get_model("auth", "Group")
    for name in ("manager", "foreman"):
        group.objects.using(schema_editor.connection.alias).get_or_create(name=name)


class Migration(migrations.Migration):
    dependencies = [("api", "0001_initial")]
    operations = [migrations.RunPython(make, migrations.RunPython.noop)]
