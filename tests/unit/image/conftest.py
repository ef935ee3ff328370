from tests.harness.image_bench import bench, client

__all__ = ["bench", "client"]
