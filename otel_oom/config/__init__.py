"""Environment variables and their defaults, one module for each subject.

================================================  ===========
``OTEL_OOM_STORE_*``, ``STATE_DIRECTORY``, …      ``store``
``OTEL_OOM_CONTAINER_LABELS``, ``WATCHDOG_*``, …  ``agent``
``OTEL_OOM_KUBERNETES_EVENTS``                    ``pod_events``
``OTEL_OOM_EXCLUDE``, ``OTEL_OOM_PROCESSORS``, …  ``filters``
``OTEL_EXPORTER_OTLP_*``                          ``endpoint``
``OTEL_LOGS_EXPORTER``, ``OTEL_TRACES_*``, …      ``exporters``
``OTEL_RESOURCE_*``, ``OTEL_SDK_*``, …            ``otlp``
``OTEL_ENTITIES``                                 ``entities``
``OTEL_*_LIMIT``                                  ``limits``
``OTEL_METRIC*``                                  ``metrics``
``OTEL_CONFIG_FILE``                              ``file``
================================================  ===========

``standard_variables`` lists all of OpenTelemetry's, with what becomes of each. ``agent`` joins what
``otel-oom run`` needs. Variables of other projects are read where they are used: proxies
(``export``), ``DOCKER_HOST`` (``linux.containers``), ``BCC_KERNEL_SOURCE`` (``capture.bcc``), the
terminal's (``commands.console``).
"""
