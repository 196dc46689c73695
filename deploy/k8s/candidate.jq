# From the Deployment `consumer`, one for consumers of another version: docs/scaling.md has the command.
"consumer-v\($version)" as $name
| {apiVersion, kind, metadata: {name: $name, labels: .metadata.labels}, spec}
| .spec.replicas = 1
| (.spec.selector.matchLabels, .spec.template.metadata.labels)["app.kubernetes.io/instance"] = $name
| .spec.template.spec.containers[0].env += [{name: "SLUICE_VERSION", value: $version}]
