package stack

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// LentLogin is the database login of copies of the shop's services that stand
// outside its namespace for a while.
const LentLogin = "shop_lent"

// LendLogin makes a database login of the shop and a namespace that has it in a
// Secret of the name given, with the keys that services read, so that copies of
// them can run there. EndLending takes the login back; the Secret goes with its
// namespace.
func LendLogin(ctx context.Context, env *Env, namespace, secret string) error {
	if err := ensureNamespace(ctx, env, namespace); err != nil {
		return err
	}
	password := randomText()
	if err := setLogin(ctx, env, LentLogin, password); err != nil {
		return err
	}
	_, err := env.Kube.Clientset.CoreV1().Secrets(namespace).Create(ctx, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: secret, Namespace: namespace, Labels: shopSecretLabels()},
		Type:       corev1.SecretTypeOpaque,
		Data:       map[string][]byte{keyUser: []byte(LentLogin), keyPassword: []byte(password)},
	}, metav1.CreateOptions{})
	if err != nil {
		return errors.Join(fmt.Errorf("make secret %s/%s: %w", namespace, secret, withoutBody(err)), EndLending(ctx, env))
	}
	return nil
}

// EndLending takes what LendLogin made the right to log in. It may be called
// again.
func EndLending(ctx context.Context, env *Env) error { return endLogin(ctx, env, LentLogin) }
