"""The package beside docker-charon: the same calls give the same registries."""

import unittest
import warnings

import kharon
from kit import Case

try:
    import docker_charon
except ImportError:
    docker_charon = None


@unittest.skipUnless(docker_charon, "docker-charon is not installed")
class SideBySide(Case):
    CALLS = [
        (["tool:2"], [], False),
        (["team/app:1", "tool:2"], [], False),
        (["team/app:1"], ["team/base:1"], True),
        (["team/app:1", "team/base:1"], ["team/base:1"], True),
        (["team/base:1", "team/app:1"], ["team/base:1"], False),
    ]

    def test_the_same_calls_give_the_same_registries(self):
        for images, already, strict in self.CALLS:
            with self.subTest(images=images, already=already):
                results = []
                for package in (docker_charon, kharon):
                    far = self.registry()
                    file = self.folder / f"{package.__name__}.zip"
                    if already:
                        self.make(file, already, package=package)
                        package.push_payload(file, registry=far.host, secure=False)
                    self.make(file, images, already, package=package)
                    pushed = package.push_payload(str(file), strict, far.host, False)
                    results.append((pushed, far.content()))
                self.assertEqual(results[0], results[1])
                self.assertEqual(results[0][0], images)

    def test_an_image_that_is_not_there_is_warned_of_and_raised_when_strict(self):
        for package in (docker_charon, kharon):
            with self.subTest(package=package.__name__):
                far = self.registry()
                self.make(None, ["team/base:1", "tool:2"], ["team/base:1"], package=package)
                with warnings.catch_warnings(record=True) as caught:
                    warnings.simplefilter("always")
                    pushed = package.push_payload(self.payload, registry=far.host, secure=False)
                self.assertEqual(pushed, ["team/base:1", "tool:2"])
                self.assertIn(UserWarning, [warning.category for warning in caught])
                self.assertEqual(list(far.content()), ["tool:2"])
                with self.assertRaises(package.ManifestNotFound):
                    package.push_payload(self.payload, True, far.host, False)

    def test_payloads_of_docker_charon_are_pushed(self):
        far = self.registry()
        self.make(None, ["team/app:1"], package=docker_charon)
        self.assertEqual(kharon.push_payload(self.payload, False, far.host, False), ["team/app:1"])


if __name__ == "__main__":
    unittest.main()
