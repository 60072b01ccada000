"""Environment variables and their defaults, one module for each subject.

=================================================  ===============
``OTEL_OOM_STORE_*``                               ``store``
``OTEL_OOM_CONTAINER_LABELS``                      ``containers``
``OTEL_EXPORTER_OTLP_*``                           ``endpoint``
``OTEL_RESOURCE_ATTRIBUTES``, ``OTEL_SDK_*``, …    ``otlp``
``OTEL_METRIC*``                                   ``metrics``
``STATE_DIRECTORY``, ``XDG_STATE_HOME``            ``state_dir``
``NOTIFY_SOCKET``, ``WATCHDOG_*``                  ``systemd``
=================================================  ===============

``agent`` joins what ``otel-oom run`` needs. Variables of other projects are read where they are
used: proxies (``export``), ``DOCKER_HOST`` (``linux.containers``), ``BCC_KERNEL_SOURCE``
(``capture.bcc``), the terminal's (``commands.console``).
"""
