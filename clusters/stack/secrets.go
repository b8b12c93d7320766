package stack

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"meshsim.dev/meshsim/clusters/stack/vaultapi"
	shopchart "meshsim.dev/meshsim/fakeshop/chart"
	shopsecrets "meshsim.dev/meshsim/fakeshop/secrets"
)

// The shop's secrets. In Vault they have the same keys as in the Secret.
const (
	shopSecret       = "shop-secrets"
	vaultCAConfigMap = "vault-ca"

	keyUser     = shopsecrets.KeyUser
	keyPassword = shopsecrets.KeyPassword
	keyPayment  = shopsecrets.KeyPayment

	fileLogin  = "shop"       // database login of services that read the Secret
	vaultLogin = "shop_vault" // database login of services that read Vault, until it is rotated

	sourceFile = "file"

	paymentService = "payment-gateway"

	// retiredMark on the Secret says that its keys were taken away because all
	// services read Vault.
	retiredMark = "meshsim.dev/secrets-retired"
)

// rotatorLogin is the database login of what rotates the others, until it is
// rotated itself.
func rotatorLogin() string { return shopchart.Logins(shopchart.Rotator)[0] }

// ensureShopSecret makes the Secret when it is missing, and again when it was
// retired but a service is to read it once more.
func ensureShopSecret(ctx context.Context, env *Env, needed bool) error {
	secret, err := env.Kube.Clientset.CoreV1().Secrets(NamespaceShop).Get(ctx, shopSecret, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return makeShopSecret(ctx, env)
	case err != nil:
		return fmt.Errorf("read secret %s: %w", shopSecret, err)
	case needed && secret.Annotations[retiredMark] != "":
		return RestoreSecrets(ctx, env)
	}
	return nil
}

func makeShopSecret(ctx context.Context, env *Env) error {
	_, err := env.Kube.Clientset.CoreV1().Secrets(NamespaceShop).Create(ctx, newShopSecret(randomText()), metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("make secret %s: %w", shopSecret, withoutBody(err))
	}
	return nil
}

func newShopSecret(password string) *corev1.Secret {
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: shopSecret, Namespace: NamespaceShop, Labels: shopSecretLabels()},
		Type:       corev1.SecretTypeOpaque,
		Data: map[string][]byte{
			keyUser:     []byte(fileLogin),
			keyPassword: []byte(password),
			keyPayment:  []byte(randomText()),
		},
	}
}

// replicationSecret is what a replica of the database logs in with. It stays
// where the shop's own secrets move into Vault: no service reads it.
const (
	replicationSecret = "postgres-replication"
	keyReplication    = "password"
)

// ensureReplicationSecret makes the Secret when it is missing.
func ensureReplicationSecret(ctx context.Context, env *Env) error {
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: replicationSecret, Namespace: NamespaceShop, Labels: shopSecretLabels()},
		Type:       corev1.SecretTypeOpaque,
		Data:       map[string][]byte{keyReplication: []byte(randomText())},
	}
	_, err := env.Kube.Clientset.CoreV1().Secrets(NamespaceShop).Get(ctx, replicationSecret, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		_, err = env.Kube.Clientset.CoreV1().Secrets(NamespaceShop).Create(ctx, secret, metav1.CreateOptions{})
	}
	if err != nil {
		return fmt.Errorf("make secret %s: %w", replicationSecret, withoutBody(err))
	}
	return nil
}

func shopSecretLabels() map[string]string {
	return map[string]string{"app.kubernetes.io/part-of": "fakeshop", "app.kubernetes.io/managed-by": "meshsim"}
}

// withoutBody keeps what an API server may quote of a refused object out of an error.
func withoutBody(err error) error {
	if reason := apierrors.ReasonForError(err); reason != metav1.StatusReasonUnknown {
		return fmt.Errorf("the API server refuses: %s", reason)
	}
	return err
}

// MoveSecrets puts the shop's secrets into Vault: a new database login that
// only Vault knows, the payment key for the one service that takes payments, and
// a login of its own for what rotates them from now on. Services go on with the
// Secret until they are rolled to read Vault; RetireSecrets then ends the old way.
// Doing it again makes a new password.
func MoveSecrets(ctx context.Context, env *Env) error {
	secret, err := env.Kube.Clientset.CoreV1().Secrets(NamespaceShop).Get(ctx, shopSecret, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("read secret %s: %w", shopSecret, err)
	}
	payment := string(secret.Data[keyPayment])
	if payment == "" {
		return fmt.Errorf("secret %s has no %s: were the secrets moved already?", shopSecret, keyPayment)
	}
	password := randomText()
	if err := setLogin(ctx, env, vaultLogin, password); err != nil {
		return err
	}
	if err := setUpRotation(ctx, env); err != nil {
		return err
	}
	rotator := randomText()
	if err := setLoginOf(ctx, env, rotationGroup, rotatorLogin(), rotator); err != nil {
		return err
	}
	err = inVault(ctx, env, func(vault *vaultapi.Client) error {
		for _, service := range keepers() {
			values := map[string]string{keyUser: vaultLogin, keyPassword: password}
			switch service {
			case paymentService:
				values[keyPayment] = payment
			case shopchart.Rotator:
				values = map[string]string{keyUser: rotatorLogin(), keyPassword: rotator}
			}
			err := put(ctx, vault, kvMount+"/data/"+secretPath(service), map[string]any{"data": values})
			if err != nil {
				return fmt.Errorf("write the secrets of %s: %w", service, err)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := endForgottenLogins(ctx, env); err != nil {
		return err
	}
	return publishVaultCA(ctx, env)
}

// publishVaultCA tells the services which CA Vault's certificate comes from.
func publishVaultCA(ctx context.Context, env *Env) error {
	ca, err := vaultCA(ctx, env)
	if err != nil {
		return err
	}
	text, err := manifest("vault-ca.yaml", map[string]any{"Namespace": NamespaceShop, "Name": vaultCAConfigMap, "CA": string(ca)})
	if err != nil {
		return err
	}
	return env.Kube.Apply(ctx, text, "")
}

// RetireSecrets ends the old way once every service reads Vault: the old
// database login may no longer log in, and the Secret loses its keys.
func RetireSecrets(ctx context.Context, env *Env) error {
	if err := endLogin(ctx, env, fileLogin); err != nil {
		return err
	}
	secrets := env.Kube.Clientset.CoreV1().Secrets(NamespaceShop)
	secret, err := secrets.Get(ctx, shopSecret, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("read secret %s: %w", shopSecret, err)
	}
	secret.Data = nil
	if secret.Annotations == nil {
		secret.Annotations = map[string]string{}
	}
	secret.Annotations[retiredMark] = "true"
	if _, err := secrets.Update(ctx, secret, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("take the keys out of secret %s: %w", shopSecret, withoutBody(err))
	}
	return nil
}

// RestoreSecrets undoes RetireSecrets: the old database login gets a new
// password, and the Secret new keys. Services may then be rolled back to it.
func RestoreSecrets(ctx context.Context, env *Env) error {
	fresh := newShopSecret(randomText())
	if err := setLogin(ctx, env, fileLogin, string(fresh.Data[keyPassword])); err != nil {
		return err
	}
	secrets := env.Kube.Clientset.CoreV1().Secrets(NamespaceShop)
	secret, err := secrets.Get(ctx, shopSecret, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		if _, err := secrets.Create(ctx, fresh, metav1.CreateOptions{}); err != nil {
			return fmt.Errorf("make secret %s: %w", shopSecret, withoutBody(err))
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("read secret %s: %w", shopSecret, err)
	}
	secret.Data = fresh.Data
	delete(secret.Annotations, retiredMark)
	if _, err := secrets.Update(ctx, secret, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("put keys into secret %s: %w", shopSecret, withoutBody(err))
	}
	return nil
}
