package steps

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"meshsim.dev/meshsim/clusters/fault"
	"meshsim.dev/meshsim/clusters/pause"
	"meshsim.dev/meshsim/clusters/stack"
	shopchart "meshsim.dev/meshsim/fakeshop/chart"
	"meshsim.dev/meshsim/harness/probes"
	"meshsim.dev/meshsim/results"
)

// rotateSecrets has the shop's own CronJob renew all secrets now, as `kubectl
// create job --from` would, and waits until every service that reads Vault is
// connected to the database by its new login alone.
type rotateSecrets struct {
	env *Env

	// What a test replaces.
	stored    func(context.Context) ([]stack.StoredSecret, error)
	database  probes.Database
	replica   probes.Database
	log       func(ctx context.Context, pod string) ([]byte, error)
	look      time.Duration // between two looks
	jobTime   time.Duration // that the Job may take
	loginTime time.Duration // that services may take afterwards
}

func newRotateSecrets(env *Env) *rotateSecrets {
	s := &rotateSecrets{env: env, look: 2 * time.Second, jobTime: 20 * time.Minute, loginTime: 2 * time.Minute}
	if env.Kube != nil {
		s.database, s.replica = probes.PSQL{Exec: env.Kube.Exec}, probes.PSQL{Exec: env.Kube.Exec, Replica: true}
		s.stored = func(ctx context.Context) ([]stack.StoredSecret, error) { return stack.StoredSecrets(ctx, env.Stack) }
		s.log = func(ctx context.Context, pod string) ([]byte, error) {
			return env.Kube.Logs(ctx, shopNamespace, pod, rotatorContainer)
		}
	}
	return s
}

const (
	rotatorContainer = "rotate"
	// instantiate is what kubectl notes on a Job that it made from a CronJob.
	instantiate = "cronjob.kubernetes.io/instantiate"
)

func (s *rotateSecrets) Execute(ctx context.Context) error {
	task := s.env.Progress.Start("rotate the secrets in Vault")
	seen, err := s.rotate(ctx, task.Detail)
	if err != nil {
		task.Fail(err)
		return err
	}
	task.Done(fmt.Sprintf("%d secrets after %d s, in use by %d services after %d s", len(seen.Secrets), seen.JobMs/1000, len(seen.Logins), seen.UsedMs/1000))
	s.env.Record.Note(fmt.Sprintf("rotated %d secrets; every service that reads Vault uses its new login", len(seen.Secrets)))
	return s.env.Record.Probe(results.ProbeSecretsRotated, seen)
}

func (s *rotateSecrets) rotate(ctx context.Context, say func(string, ...any)) (seen results.SecretsRotated, err error) {
	before, err := s.stored(ctx)
	if err != nil {
		return seen, err
	}
	databases, err := s.databases(ctx)
	if err != nil {
		return seen, err
	}
	connected, err := probes.Logins(ctx, databases...)
	if err != nil {
		return seen, err
	}
	began := time.Now()
	if seen.Job, err = s.begin(ctx); err != nil {
		return seen, err
	}
	if err := s.awaitJob(ctx, seen.Job, say); err != nil {
		return seen, err
	}
	seen.JobMs = time.Since(began).Milliseconds()
	after, err := s.stored(ctx)
	if err != nil {
		return seen, err
	}
	if seen.Secrets, err = renewed(before, after); err != nil {
		return seen, fault.NewEnvironment(err, s.mend(seen.Job))
	}
	seen.Logins, err = s.awaitLogins(ctx, databases, connected, say)
	seen.UsedMs = time.Since(began).Milliseconds()
	return seen, err
}

// databases are the servers that the services have sessions at.
func (s *rotateSecrets) databases(ctx context.Context) ([]probes.Database, error) {
	_, err := s.env.Kube.Clientset.CoreV1().Pods(shopNamespace).Get(ctx, stack.ReplicaPod, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return []probes.Database{s.database}, nil
	case err != nil:
		return nil, fmt.Errorf("look for the database's replica: %w", err)
	}
	return []probes.Database{s.database, s.replica}, nil
}

// begin makes a Job from the CronJob and returns its name.
func (s *rotateSecrets) begin(ctx context.Context) (string, error) {
	cron, err := s.env.Kube.Clientset.BatchV1().CronJobs(shopNamespace).Get(ctx, shopchart.Rotator, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return "", fault.NewEnvironment(fmt.Errorf("there is no CronJob %s/%s to rotate secrets by", shopNamespace, shopchart.Rotator),
			"step move-secrets installs it with the shop; has somebody set the shop's value rotation.enabled to false, or deleted it?")
	}
	if err != nil {
		return "", fmt.Errorf("find CronJob %s: %w", shopchart.Rotator, err)
	}
	job := jobFrom(cron, time.Now())
	if _, err := s.env.Kube.Clientset.BatchV1().Jobs(shopNamespace).Create(ctx, job, metav1.CreateOptions{}); err != nil {
		return "", fmt.Errorf("make a job from CronJob %s: %w", shopchart.Rotator, err)
	}
	return job.Name, nil
}

// jobFrom is a Job of the CronJob's template that renews secrets whatever their
// age. It goes with the CronJob, which does not take it for one of its own.
func jobFrom(cron *batchv1.CronJob, now time.Time) *batchv1.Job {
	template := cron.Spec.JobTemplate.DeepCopy()
	annotations := map[string]string{instantiate: "manual"}
	maps.Copy(annotations, template.Annotations)
	for i := range template.Spec.Template.Spec.Containers {
		if c := &template.Spec.Template.Spec.Containers[i]; c.Name == rotatorContainer {
			c.Args = append(c.Args, "--now")
		}
	}
	return &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{
			Name: cron.Name + "-now-" + strconv.FormatInt(now.UnixMilli(), 36), Namespace: cron.Namespace,
			Labels: template.Labels, Annotations: annotations,
			OwnerReferences: []metav1.OwnerReference{{APIVersion: batchv1.SchemeGroupVersion.String(), Kind: "CronJob", Name: cron.Name, UID: cron.UID}},
		},
		Spec: template.Spec,
	}
}

// awaitJob waits until the Job has ended well.
func (s *rotateSecrets) awaitJob(ctx context.Context, name string, say func(string, ...any)) error {
	for began := time.Now(); ; {
		job, err := s.env.Kube.Clientset.BatchV1().Jobs(shopNamespace).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return fmt.Errorf("look at job %s: %w", name, err)
		}
		for _, c := range job.Status.Conditions {
			switch {
			case c.Status != corev1.ConditionTrue:
			case c.Type == batchv1.JobComplete:
				return nil
			case c.Type == batchv1.JobFailed:
				return fault.NewEnvironment(fmt.Errorf("job %s failed: %s %s; last: %s", name, c.Reason, c.Message, s.lastWords(ctx, name)), s.mend(name))
			}
		}
		took := time.Since(began)
		if took > s.jobTime {
			return fault.NewEnvironment(fmt.Errorf("job %s has not ended within %s; last: %s", name, s.jobTime, s.lastWords(ctx, name)), s.mend(name))
		}
		say("%d s, %d pods failed", int(took.Seconds()), job.Status.Failed)
		if err := pause.For(ctx, s.look); err != nil {
			return err
		}
	}
}

func (s *rotateSecrets) mend(job string) string {
	return fmt.Sprintf("`kubectl -n %[1]s describe job %[2]s` and `kubectl -n %[1]s logs -l job-name=%[2]s` tell more; the old logins still work, and another rotation goes on where this one ended",
		shopNamespace, job)
}

// lastWords are what the Job's newest pod said last, or why it said nothing. The
// rotator tells no secret.
func (s *rotateSecrets) lastWords(ctx context.Context, job string) string {
	pods, err := s.env.Kube.Clientset.CoreV1().Pods(shopNamespace).List(ctx, metav1.ListOptions{LabelSelector: "job-name=" + job})
	if err != nil {
		return fmt.Sprintf("its pods cannot be listed: %v", err)
	}
	if len(pods.Items) == 0 {
		return "it has no pod"
	}
	newest := slices.MaxFunc(pods.Items, func(a, b corev1.Pod) int { return a.CreationTimestamp.Compare(b.CreationTimestamp.Time) })
	out, err := s.log(ctx, newest.Name)
	if words := strings.TrimSpace(string(lastLine(out))); words != "" {
		return words
	}
	if err != nil {
		return fmt.Sprintf("pod %s is %s: %v", newest.Name, newest.Status.Phase, err)
	}
	return fmt.Sprintf("pod %s is %s and has said nothing", newest.Name, newest.Status.Phase)
}

// renewed holds the secrets' versions against those before; all must be new, and
// must say how often they are renewed.
func renewed(before, after []stack.StoredSecret) ([]results.RotatedSecret, error) {
	versions := map[string]int{}
	for _, s := range before {
		versions[s.Path] = s.Version
	}
	all := []results.RotatedSecret{}
	var old []string
	for _, s := range after {
		switch {
		case s.Version <= versions[s.Path]:
			old = append(old, s.Path+" has no new version")
		case s.Every <= 0:
			old = append(old, s.Path+" does not say how often it is renewed")
		}
		all = append(all, results.RotatedSecret{Path: s.Path, From: versions[s.Path], To: s.Version})
	}
	if len(old) > 0 || len(all) == 0 {
		return nil, fmt.Errorf("the rotation is over, and not all secrets are renewed: %s", strings.Join(old, ", "))
	}
	return all, nil
}

// awaitLogins waits until every service that reads Vault has sessions by one
// login of its own, which it did not have before, and by no other.
func (s *rotateSecrets) awaitLogins(ctx context.Context, databases []probes.Database, before map[string]map[string]int, say func(string, ...any)) ([]results.UsedLogin, error) {
	for began := time.Now(); ; {
		var used []results.UsedLogin
		now, err := probes.Logins(ctx, databases...)
		if err == nil {
			used, err = newLogins(s.env.Rollout.readingVault(), before, now)
		}
		switch {
		case err == nil:
			return used, nil
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case time.Since(began) > s.loginTime:
			return nil, fault.NewEnvironment(fmt.Errorf("%s after the rotation: %w", s.loginTime, err),
				"the service's log says whether it can read Vault; it reads again every minute")
		}
		say("%s", err)
		if err := pause.For(ctx, s.look); err != nil {
			return nil, err
		}
	}
}

// newLogins says by which new login each service has sessions; the error names
// those that do not have them, or others, too.
func newLogins(services []string, before, now map[string]map[string]int) ([]results.UsedLogin, error) {
	used := []results.UsedLogin{}
	var wrong []string
	for _, service := range services {
		logins := slices.Sorted(maps.Keys(now[service]))
		own := shopchart.Logins(service)
		switch {
		case len(logins) == 0:
			wrong = append(wrong, service+" is not connected")
		case len(logins) > 1 || !slices.Contains(own[:], logins[0]):
			wrong = append(wrong, fmt.Sprintf("%s is connected as %s", service, strings.Join(logins, " and ")))
		case before[service][logins[0]] > 0:
			wrong = append(wrong, fmt.Sprintf("%s is still connected as %s", service, logins[0]))
		default:
			used = append(used, results.UsedLogin{Service: service, Login: logins[0], Sessions: now[service][logins[0]],
				Before: slices.Sorted(maps.Keys(before[service]))})
		}
	}
	if len(wrong) > 0 {
		return nil, errors.New(strings.Join(wrong, "; "))
	}
	return used, nil
}
