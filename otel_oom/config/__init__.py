"""Environment variables and their defaults, one module for each subject.

================================================  ===========
``OTEL_OOM_STORE_*``, ``STATE_DIRECTORY``, …      ``store``
``OTEL_OOM_CONTAINER_LABELS``, ``WATCHDOG_*``, …  ``agent``
``OTEL_EXPORTER_OTLP_*``, ``OTEL_SDK_*``, …       ``otlp``
``OTEL_METRIC*``                                  ``metrics``
================================================  ===========

``agent`` joins what ``otel-oom run`` needs. Variables of other projects are read where they are
used: proxies (``export``), ``DOCKER_HOST`` (``linux.containers``), ``BCC_KERNEL_SOURCE``
(``capture.bcc``), the terminal's (``commands.console``).
"""
