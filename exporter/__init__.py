"""Prometheus exporter for the text-to-speech jobs of Huawei Cloud MetaStudio."""

__version__ = "0.1.0"
