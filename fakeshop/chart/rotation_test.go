package chart_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"meshsim.dev/meshsim/fakeshop/chart"
)

func rotating(more map[string]any) map[string]any {
	values := map[string]any{"rotation": map[string]any{"enabled": true}, "secrets": map[string]any{"source": "vault"}}
	for name, v := range more {
		values[name] = v
	}
	return values
}

func TestNothingIsRotatedBeforeItIsInVault(t *testing.T) {
	o := rendered(t, map[string]any{})
	require.Empty(t, o.CronJobs)
	require.NotContains(t, o.Accounts, chart.Rotator)
}

func TestTheRotatorIsACronJobThatDoesNotOverlap(t *testing.T) {
	o := rendered(t, rotating(nil))
	require.Contains(t, o.Accounts, chart.Rotator)
	cron := o.CronJobs[chart.Rotator]
	require.Equal(t, "23 3 * * *", cron.Spec.Schedule)
	require.Equal(t, batchv1.ForbidConcurrent, cron.Spec.ConcurrencyPolicy)
	job := cron.Spec.JobTemplate.Spec
	require.Equal(t, int32(604800), *job.TTLSecondsAfterFinished)
	require.Equal(t, corev1.RestartPolicyNever, job.Template.Spec.RestartPolicy)
	require.Equal(t, map[string]string{"app.kubernetes.io/name": chart.Rotator}, job.Template.Labels,
		"no pod of the shop's, all of which should have a proxy")
	require.Equal(t, "disabled", job.Template.Annotations["linkerd.io/inject"])

	pod := job.Template.Spec
	require.Equal(t, chart.Rotator, pod.ServiceAccountName)
	require.False(t, *pod.AutomountServiceAccountToken)
	require.True(t, *pod.SecurityContext.RunAsNonRoot)
	require.Equal(t, corev1.SeccompProfileTypeRuntimeDefault, pod.SecurityContext.SeccompProfile.Type)
	c := pod.Containers[0]
	require.Equal(t, []corev1.Capability{"ALL"}, c.SecurityContext.Capabilities.Drop)
	require.False(t, *c.SecurityContext.AllowPrivilegeEscalation)
	require.True(t, *c.SecurityContext.ReadOnlyRootFilesystem)
	require.Equal(t, "meshsim.local/fakeshop:1", c.Image)
	require.Equal(t, []string{"rotate"}, c.Args)
	require.Equal(t, "20m", c.Resources.Requests.Cpu().String())
	require.Equal(t, "96Mi", c.Resources.Limits.Memory().String())
	require.Equal(t, map[string]string{
		"SHOP_NAMESPACE": "prod-app", "SHOP_DB_HOST": "postgres", "SHOP_DB_PORT": "5432", "SHOP_DB_NAME": "shop", "SHOP_LOG": "info",
		"ROTATE_PERIOD": "720h", "ROTATE_LEAD": "48h", "ROTATE_TAKE_UP": "135s", "ROTATE_PATIENCE": "540s",
		"VAULT_ADDR": "https://vault.vault.svc:8200", "VAULT_CACERT": "/etc/vault-ca/ca.crt", "VAULT_ROLE": chart.Rotator,
		"VAULT_BASE": "secret/data/prod-app", "GOMAXPROCS": "1", "GOMEMLIMIT": "76MiB",
	}, env(c))
	require.Equal(t, "vault", pod.Volumes[0].Projected.Sources[0].ServiceAccountToken.Audience)
	require.Equal(t, "vault-ca", pod.Volumes[1].ConfigMap.Name)
}

func TestServicesReadVaultAsOftenAsTheRotatorCountsOn(t *testing.T) {
	o := rendered(t, rotating(map[string]any{"vault": map[string]any{"readEverySeconds": 30, "kvPath": "kv/data/shop"},
		"rotation": map[string]any{"enabled": true, "periodHours": 24, "leadHours": 2, "schedule": "0 * * * *"}}))
	service := env(o.Deployments["order-processing"].Spec.Template.Spec.Containers[0])
	require.Equal(t, "30s", service["SHOP_SECRETS_EVERY"])
	require.Equal(t, "kv/data/shop/order-processing", service["VAULT_PATH"])
	rotator := env(o.CronJobs[chart.Rotator].Spec.JobTemplate.Spec.Template.Spec.Containers[0])
	require.Equal(t, []string{"75s", "420s", "24h", "2h", "kv/data/shop"},
		[]string{rotator["ROTATE_TAKE_UP"], rotator["ROTATE_PATIENCE"], rotator["ROTATE_PERIOD"], rotator["ROTATE_LEAD"], rotator["VAULT_BASE"]})
}

func TestTheRotatorHasAProxyWhereTheDatabaseHas(t *testing.T) {
	o := rendered(t, rotating(map[string]any{"policies": map[string]any{"enabled": true},
		"postgres": map[string]any{"meshed": true, "replica": map[string]any{"enabled": true}}}))
	job := o.CronJobs[chart.Rotator].Spec.JobTemplate.Spec.Template
	require.Equal(t, "enabled", job.Annotations["linkerd.io/inject"])
	require.Equal(t, "http://127.0.0.1:4191", env(job.Spec.Containers[0])["SHOP_PROXY_ADMIN"], "which ends when it is asked to")
	require.Equal(t, "postgres-read", env(job.Spec.Containers[0])["SHOP_DB_READ_HOST"])
	for _, name := range []string{"postgres", "postgres-replica", "order-processing"} {
		refs := o.Policies["MeshTLSAuthentication "+name+"-callers"].Object["spec"].(map[string]any)["identityRefs"].([]any)
		let := false
		for _, ref := range refs {
			let = let || ref.(map[string]any)["name"] == chart.Rotator
		}
		require.Equal(t, name != "order-processing", let, name)
	}
}
